"""What a cluster's members may use, against what a machine can hold."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from perennial.errors import PerennialError
from perennial.fleets.capacity import Capacity, Use, gib, starts, total
from perennial.local.machine import Machine, this_machine
from perennial.spec import ClusterSpec
from perennial.spec.models import WorkerGroup


def of_member(group: WorkerGroup) -> Use:
    """Say what a member of a group may use."""
    return Use(group.processes, group.processes * group.memory)


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


def capacity(spec: ClusterSpec, machine: Machine) -> Capacity:
    """Say what a machine holds on which all services of a cluster stand."""
    services = spec.scheduler.memory
    services += spec.jupyter.memory if spec.jupyter is not None else 0
    services += spec.scaler.memory if spec.scaler is not None and spec.scaled else 0
    return Capacity(machine.cores, machine.memory, services)


def check(spec: ClusterSpec, sizes: Mapping[str, int], before: Use) -> None:
    """Refuse sizes whose members this machine cannot hold, unless as much stands there already.

    Raises
    ------
    PerennialError
        Names what is asked for, what there is, and the way to mean it.
    """
    asked, holds = of_groups(spec, sizes), capacity(spec, this_machine())
    if holds.fits(asked):
        return
    if asked.processes <= before.processes and asked.memory <= before.memory:
        return
    listed = ", ".join(f"{name}={size}" for name, size in sizes.items() if size)
    raise PerennialError(
        f"{spec.name}: {listed}: {asked.processes:,} worker processes with {gib(asked.memory)} of"
        f" memory limits; allowed: what this machine holds, {holds}; lower count, processes or"
        " memory, or add --force"
    )


def starting(group: WorkerGroup) -> int:
    """Say how many members of a group this machine starts at a time, as busy as it is now."""
    machine = this_machine()
    load = os.getloadavg()[0]
    at_once = starts(machine.cores, load, machine.available, machine.memory)
    return -(-at_once // group.processes)
