"""Ask a cluster's machines for their state, and try the connections between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perennial.doctor import reach
from perennial.doctor.firewalls import Firewall
from perennial.doctor.reach import End, Result, Role, Source
from perennial.errors import FleetError
from perennial.platforms.hosts.agent.answers import Environment, Look
from perennial.platforms.hosts.checks import look
from perennial.platforms.hosts.machine_services import addresses, environment_spec
from perennial.platforms.hosts.operator import Operator
from perennial.platforms.hosts.remote import borrowed


@dataclass(frozen=True, slots=True)
class Seen:
    """How a machine was found."""

    #: See `perennial.platforms.hosts.checks.look`.
    look: Look
    #: See `perennial.platforms.hosts.agent.environments.look`; with ``fault`` alone where the
    #: interpreter does not run.
    environment: Environment | None
    #: Ports that others can reach, by unit or program.
    listening: Mapping[str, Sequence[int]]
    #: Free bytes by folder.
    free: Mapping[str, int]
    #: Its own.
    firewall: Firewall
    #: Whether its scheduler answers; None where it has none.
    healthy: bool | None


def see(operator: Operator, machine: str) -> Seen:
    """Ask a machine for all that the doctor wants to know of it."""
    assigned = operator.assigned[machine]
    needed = environment_spec(operator.spec, assigned)
    written = {path for part in assigned.services for path in part.access.writes}
    with borrowed(assigned.target) as agent:
        found = look(agent, assigned)
        state, python = found["folder"], agent.here(needed["python"])
        folders = [state, *sorted(p for p in map(agent.here, written) if not p.startswith(state))]
        try:
            has = agent.ask("environment_look", python=python, needs=needed["needs"])
        except FleetError as error:
            has = {"fault": str(error)}
        own = agent.ask("firewall")
        healthy = None
        if assigned.pages:
            healthy = (
                agent.ask("page", socket=agent.here(assigned.pages), path="/health") is not None
            )
        return Seen(
            look=found,
            environment=has,
            listening=agent.ask("listening", cluster=assigned.cluster),
            free=agent.ask("free", folders=folders),
            firewall=Firewall(own["kind"], tuple(own["chains"])),
            healthy=healthy,
        )


def tried(operator: Operator, seen: Mapping[str, Seen], from_here: bool) -> list[Result]:
    """Try every way that the cluster needs, from each machine that was reached."""
    wanted = ends(operator, seen)
    sources = [
        Source(
            machine,
            str(each.look["address"]),
            frozenset(part.role for part in operator.assigned[machine].services),
        )
        for machine, each in seen.items()
    ]
    if from_here:
        sources.insert(0, reach.here(wanted))

    def probe(machine: str, places: list[tuple[str, int]]) -> list[str]:
        with borrowed(operator.assigned[machine].target) as agent:
            answers: list[str] = agent.ask("probe", targets=places)
            return answers

    return reach.examine(sources, wanted, probe)


def ends(operator: Operator, seen: Mapping[str, Seen]) -> list[End]:
    """List the ports of a cluster that others must reach."""
    spec, outside = operator.spec, addresses(operator.spec)
    urls: dict[Role, str | None] = {"scheduler": outside.scheduler, "jupyter": outside.jupyter}
    found = []
    for machine, assigned in operator.assigned.items():
        each = seen.get(machine)
        listening = each.listening if each else {}
        open_here = {port for some in listening.values() for port in some}
        for role, url in urls.items():
            if url is not None and any(part.role == role for part in assigned.services):
                found.append(reach.end_of(machine, url, role, open_here))
        for placed in operator.placed(machine, each.look["manifest"]) if each else []:
            if placed.group is None or each is None:
                continue
            pinned, host = spec.workers[placed.group].ports, str(each.look["address"])
            found += [
                End(machine, host, port, "worker", placed.group, pinned, listens=True)
                for port in listening.get(placed.unit, ())
            ]
    return found
