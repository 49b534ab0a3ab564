"""Give groups on hosts another size, as far as their machines hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.capacity import Capacity, Machine, refusal, total
from perennial.contracts import Resized
from perennial.errors import FleetError, PerennialError
from perennial.platforms.hosts import deploy
from perennial.platforms.hosts.kept import chosen, counted
from perennial.platforms.hosts.operator import Operator, Say, at
from perennial.platforms.hosts.remote import Agent, borrowed
from perennial.platforms.hosts.room import services, uses
from perennial.platforms.hosts.share import Share
from perennial.platforms.hosts.sizes import spread
from perennial.sizes import check_sizes
from perennial.spec import ClusterSpec

#: Group → machine → members.
Sizes = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a machine has, and what of the cluster stands there."""

    #: Its cores and its memory.
    machine: Machine
    #: What it remembers of the cluster; empty where there is nothing.
    manifest: Mapping[str, Any]


def look(agent: Agent, cluster: str) -> Standing:
    """Ask a machine what it has."""
    manifest = agent.ask("manifest", cluster=cluster)
    return Standing(Machine(**agent.ask("machine")), manifest)


def refuse(
    spec: ClusterSpec, share: Share, now: Standing, sizes: Mapping[str, int], before: ClusterSpec
) -> None:
    """Refuse sizes which a machine cannot hold, unless as much stands there already."""
    had = {**now.manifest.get("sizes", {}), **now.manifest.get("numbers", {})}
    counts = {name: size if isinstance(size, int) else len(size) for name, size in had.items()}
    stands = total(use * counts[name] for name, use in uses(before, counts).items())
    holds = Capacity(now.machine.cores, now.machine.memory, services(share.services))
    machine = share.target.name
    if why := refusal(uses(spec, sizes), sizes, holds, stands, machine):
        raise FleetError(f"{machine}: {why}")


def scale(
    operator: Operator, wanted: Mapping[str, int], say: Say, force: bool = False
) -> dict[str, Resized]:
    """Resize groups, spread over their machines; members are drained before they leave."""
    spec = operator.spec
    check_sizes(spec, wanted, force)
    if sized := [group for group in wanted if group in spec.scaled]:
        raise PerennialError(
            f"{', '.join(sized)}: the scaler chooses the size; ask it with `perennial scale`"
        )
    standing, before = _stand(operator, wanted)
    after = {group: spread(before[group], size) for group, size in wanted.items()}
    changed = {
        machine: {group: now[machine] for group, now in after.items() if machine in now}
        for machine in operator.shares
        if any(after[group].get(machine) != before[group].get(machine) for group in wanted)
    }
    for machine, sizes in {} if force else changed.items():
        _refuse(operator, machine, standing[machine], spec, sizes)
    # New members come before old ones go, so that data has somewhere to go.
    for machine in sorted(changed, key=lambda name: _shrinks(name, before, after)):
        deploy.apply_services(
            operator.shares[machine],
            operator.secrets(),
            at(machine, say),
            scaled=changed[machine],
        )
    return {
        group: Resized(sum(before[group].values()), sum(after[group].values())) for group in wanted
    }


def check_room(operator: Operator, before: ClusterSpec) -> None:
    """Refuse a cluster file whose members some machine cannot hold.

    A machine that does not answer is left out: whoever goes there says what is in the way.
    """
    for machine, seen in operator.everywhere(lambda name: _standing(operator, name)).items():
        if not isinstance(seen, FleetError):
            _refuse(operator, machine, seen, before, {})


def _stand(
    operator: Operator, wanted: Mapping[str, int]
) -> tuple[dict[str, Standing], dict[str, dict[str, int]]]:
    """Ask every machine what it has, and how many members of these groups."""
    before: dict[str, dict[str, int]] = {group: {} for group in wanted}
    standing: dict[str, Standing] = {}
    for machine, seen in operator.everywhere(lambda name: _standing(operator, name)).items():
        if isinstance(seen, FleetError):
            raise seen
        standing[machine] = seen
        for group in wanted:
            if group in operator.shares[machine].counts:
                before[group][machine] = int(seen.manifest.get("sizes", {}).get(group, 0))
    return standing, before


def _standing(operator: Operator, machine: str) -> Standing:
    with borrowed(operator.shares[machine].target) as agent:
        return look(agent, operator.name)


def _refuse(
    operator: Operator,
    machine: str,
    seen: Standing,
    before: ClusterSpec,
    sizes: Mapping[str, int],
) -> None:
    share = operator.shares[machine]
    now = chosen(share, {"manifest": seen.manifest, "members": {}})
    refuse(operator.spec, share, seen, {**counted(now), **sizes}, before)


def _shrinks(machine: str, before: Sizes, after: Sizes) -> bool:
    return any(after[group].get(machine, 0) < before[group].get(machine, 0) for group in before)
