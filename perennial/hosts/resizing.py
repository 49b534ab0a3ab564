"""Give groups on hosts another size, as far as their machines hold it."""

from __future__ import annotations

from collections.abc import Mapping

from perennial.errors import FleetError, PerennialError
from perennial.hosts import deploy, room
from perennial.hosts.kept import chosen, counted
from perennial.hosts.operator import Operator, Say, at
from perennial.hosts.remote import borrowed
from perennial.hosts.sizes import spread
from perennial.local.plan import check_sizes
from perennial.spec import ClusterSpec

#: Group → machine → members.
Sizes = Mapping[str, Mapping[str, int]]


def scale(
    operator: Operator, wanted: Mapping[str, int], say: Say, force: bool = False
) -> dict[str, tuple[int, int]]:
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
    return {group: (sum(before[group].values()), sum(after[group].values())) for group in wanted}


def check_room(operator: Operator, before: ClusterSpec) -> None:
    """Refuse a cluster file whose members some machine cannot hold.

    A machine that does not answer is left out: whoever goes there says what is in the way.
    """
    for machine, seen in operator.everywhere(lambda name: _standing(operator, name)).items():
        if not isinstance(seen, FleetError):
            _refuse(operator, machine, seen, before, {})


def _stand(
    operator: Operator, wanted: Mapping[str, int]
) -> tuple[dict[str, room.Standing], dict[str, dict[str, int]]]:
    """Ask every machine what it has, and how many members of these groups."""
    before: dict[str, dict[str, int]] = {group: {} for group in wanted}
    standing: dict[str, room.Standing] = {}
    for machine, seen in operator.everywhere(lambda name: _standing(operator, name)).items():
        if isinstance(seen, FleetError):
            raise seen
        standing[machine] = seen
        for group in wanted:
            if group in operator.shares[machine].counts:
                before[group][machine] = int(seen.manifest.get("sizes", {}).get(group, 0))
    return standing, before


def _standing(operator: Operator, machine: str) -> room.Standing:
    with borrowed(operator.shares[machine].target) as agent:
        return room.look(agent, operator.name)


def _refuse(
    operator: Operator,
    machine: str,
    seen: room.Standing,
    before: ClusterSpec,
    sizes: Mapping[str, int],
) -> None:
    share = operator.shares[machine]
    now = chosen(share, {"manifest": seen.manifest, "members": {}})
    room.refuse(operator.spec, share, seen, {**counted(now), **sizes}, before)


def _shrinks(machine: str, before: Sizes, after: Sizes) -> bool:
    return any(after[group].get(machine, 0) < before[group].get(machine, 0) for group in before)
