"""How many members groups get, and what these may use. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import count, islice

from perennial.capacity import Use, total
from perennial.errors import PerennialError
from perennial.spec import ClusterSpec
from perennial.spec.models import WorkerGroup

#: Services which take memory that members cannot have.
SERVICES = ("scheduler", "jupyter", "scaler")


def sizes(
    counts: Mapping[str, int], declared: Mapping[str, int], current: Mapping[str, int]
) -> dict[str, int]:
    """Choose how many members each group gets.

    A count in the file is a group's first size. Afterwards the size belongs to
    `perennial scale` and the scaler, until the count in the file itself is changed.
    """
    return {
        group: current[group] if declared.get(group) == count and group in current else count
        for group, count in counts.items()
    }


def members(size: int, have: Collection[int]) -> tuple[int, ...]:
    """Choose the numbers of a group's members: who is there stays, the lowest free ones come."""
    staying = sorted(have)[:size]
    free = (number for number in count() if number not in have)
    return tuple(sorted([*staying, *islice(free, size - len(staying))]))


def least(group: WorkerGroup) -> int:
    """Return the smallest number of members that a group has at any time."""
    return group.scale.least if group.scale else group.count


def check_sizes(spec: ClusterSpec, wanted: Mapping[str, int], force: bool = False) -> None:
    """Refuse sizes that a cluster file does not allow."""
    for group, size in wanted.items():
        if group not in spec.workers:
            known = ", ".join(spec.workers)
            raise PerennialError(f"no group {group!r} in {spec.name}; it has {known}")
        bounds = spec.workers[group].scale
        if bounds and not force and not bounds.min <= size <= bounds.max:
            raise PerennialError(
                f"{group}={size}: its bounds are {bounds.min} to {bounds.max};"
                f" change workers.{group}.scale in the cluster file, or add --force"
            )


def of_member(group: WorkerGroup) -> Use:
    """Say what a member of a group may use."""
    return Use(group.processes, group.processes * group.memory)


def of_each(spec: ClusterSpec) -> dict[str, Use]:
    """Say what a member of each group may use."""
    return {name: of_member(group) for name, group in spec.workers.items()}


def of_services(spec: ClusterSpec, roles: Collection[str] = SERVICES) -> int:
    """Add up the memory that services may use which are no members, of some roles."""
    found = {"scheduler": spec.scheduler.memory}
    if spec.jupyter is not None:
        found["jupyter"] = spec.jupyter.memory
    if spec.scaler is not None and spec.scaled:
        found["scaler"] = spec.scaler.memory
    return sum(memory for role, memory in found.items() if role in roles)


def of_groups(spec: ClusterSpec, sizes: Mapping[str, int]) -> Use:
    """Add up what groups of these sizes may use."""
    return total(of_member(spec.workers[name]) * size for name, size in sizes.items())


def of_names(spec: ClusterSpec, names: Collection[str]) -> Use:
    """Add up what members may use, by name; other services are left out."""
    sizes = dict.fromkeys(spec.workers, 0)
    for name in names:
        group, _, number = name.rpartition("-")
        if number.isdecimal() and group in sizes:
            sizes[group] += 1
    return of_groups(spec, sizes)
