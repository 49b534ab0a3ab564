"""Give groups on hosts another size, as far as their machines hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perennial.capacity import MEANT, Capacity, MachineResources, Use, refusal, total
from perennial.contracts import Lost, Resized
from perennial.errors import FleetError, PerennialError
from perennial.platforms.hosts import deploy
from perennial.platforms.hosts.agent.answers import Manifest
from perennial.platforms.hosts.machine_services import MachineServices
from perennial.platforms.hosts.operator import Operator, Say, at
from perennial.platforms.hosts.ownership import NOBODY, Owner, refuse_other_stack
from perennial.platforms.hosts.remote import Agent, borrowed
from perennial.platforms.hosts.sizes import spread
from perennial.platforms.hosts.standing_members import chosen, counted
from perennial.sizes import check_sizes, of_each
from perennial.spec import ClusterSpec
from perennial.state import UP, Stack

#: Group → machine → members.
Sizes = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a machine has, and what of the cluster stands there."""

    #: Its cores and its memory.
    machine: MachineResources
    #: What it remembers of the cluster; empty where there is nothing.
    manifest: Manifest


def look(agent: Agent, cluster: str) -> Standing:
    """Ask a machine what it has."""
    manifest = agent.ask("manifest", cluster=cluster)
    return Standing(MachineResources(**agent.ask("machine")), manifest)


@dataclass(frozen=True, slots=True)
class Asked:
    """What members may use, and who says that they are meant."""

    #: What a member of each group may use, as the cluster file says.
    uses: Mapping[str, Use]
    #: The same of the members that stand already.
    before: Mapping[str, Use]
    #: How a person says that they mean a size which is too large; empty where they have.
    meant: str = MEANT


def refuse(
    assigned: MachineServices, now: Standing, sizes: Mapping[str, int], asked: Asked
) -> None:
    """Refuse sizes which a machine cannot hold, unless as much stands there already."""
    had = counted({**now.manifest.get("sizes", {}), **now.manifest.get("numbers", {})})
    stands = total(use * had.get(name, 0) for name, use in asked.before.items())
    holds = Capacity(now.machine.cores, now.machine.memory, assigned.beside)
    machine = assigned.target.name
    if why := refusal(asked.uses, sizes, holds, stands, machine, asked.meant):
        raise FleetError(f"{machine}: {why}")


def refuse_services(assigned: MachineServices, asked: Asked, owner: Owner) -> None:
    """Refuse services that their machine cannot hold, or that another stack has deployed there.

    A machine that does not answer is left out: whoever goes there says what is in the way.
    """
    try:
        with borrowed(assigned.target) as agent:
            now = look(agent, assigned.cluster)
    except FleetError:
        return
    refuse_other_stack(assigned.target.name, assigned.cluster, now.manifest, owner)
    refuse(assigned, now, _sizes(assigned, now), asked)


def _sizes(assigned: MachineServices, now: Standing) -> dict[str, int]:
    """Say how many members of each group a deploy would leave on a machine."""
    return counted(chosen(assigned, now.manifest, {}))


def scale(
    operator: Operator,
    wanted: Mapping[str, int],
    say: Say,
    force: bool = False,
    lost: Lost | None = None,
) -> dict[str, Resized]:
    """Resize groups, spread over their machines; members are drained before they leave."""
    spec = operator.spec
    check_sizes(spec, wanted, force)
    if sized := [group for group in wanted if group in spec.scaled]:
        raise PerennialError(
            f"{', '.join(sized)}: the scaler chooses the size; ask it with `perennial scale`"
        )
    standing, before = _stand(operator, wanted)
    owner = _owner(operator)
    for machine, there in standing.items():
        refuse_other_stack(machine, operator.name, there.manifest, owner)
    after = {group: spread(before[group], size) for group, size in wanted.items()}
    changed = {
        machine: {group: now[machine] for group, now in after.items() if machine in now}
        for machine in operator.assigned
        if any(after[group].get(machine) != before[group].get(machine) for group in wanted)
    }
    uses = of_each(spec)
    asked = Asked(uses, uses, "" if force else MEANT)
    for machine, sizes in changed.items():
        assigned, there = operator.assigned[machine], standing[machine]
        refuse(assigned, there, {**_sizes(assigned, there), **sizes}, asked)
    # New members come before old ones go, so that data has somewhere to go.
    for machine in sorted(changed, key=lambda name: _shrinks(name, before, after)):
        deploy.apply_services(
            operator.assigned[machine],
            operator.secrets(),
            at(machine, say),
            scaled=changed[machine],
            lost=lost,
        )
    return {
        group: Resized(sum(before[group].values()), sum(after[group].values())) for group in wanted
    }


def check_room(operator: Operator, before: ClusterSpec, force: bool = False) -> None:
    """Refuse a cluster file whose members some machine cannot hold, or has of another stack."""
    asked = Asked(of_each(operator.spec), of_each(before), "" if force else MEANT)
    owner = Owner(stack=UP, meant=asked.meant)

    def check(machine: str) -> None:
        refuse_services(operator.assigned[machine], asked, owner)

    for refused in operator.everywhere(check).values():
        if refused is not None:
            raise refused


def _owner(operator: Operator) -> Owner:
    """Say whose a cluster must be that is sized from here: its keys would go to the machines."""
    if Stack.load(operator.paths) is not None:
        return NOBODY  # the folder names the stack otherwise than the machines do
    return Owner(stack=UP, meant="run `perennial up --force`")


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
            if group in operator.assigned[machine].counts:
                before[group][machine] = int(seen.manifest.get("sizes", {}).get(group, 0))
    return standing, before


def _standing(operator: Operator, machine: str) -> Standing:
    with borrowed(operator.assigned[machine].target) as agent:
        return look(agent, operator.name)


def _shrinks(machine: str, before: Sizes, after: Sizes) -> bool:
    return any(after[group].get(machine, 0) < before[group].get(machine, 0) for group in before)
