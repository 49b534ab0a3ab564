"""What a cluster's members may use, against what a machine can hold."""

from __future__ import annotations

from collections.abc import Mapping

from perennial import capacity as capacities
from perennial.capacity import Capacity, Machine, Use, refusal
from perennial.errors import PerennialError
from perennial.platforms.local.machine import this_machine
from perennial.sizes import of_groups, of_member
from perennial.spec import ClusterSpec
from perennial.spec.models import WorkerGroup


def capacity(spec: ClusterSpec, machine: Machine) -> Capacity:
    """Say what a machine holds on which all services of a cluster stand."""
    services = spec.scheduler.memory
    services += spec.jupyter.memory if spec.jupyter is not None else 0
    services += spec.scaler.memory if spec.scaler is not None and spec.scaled else 0
    return Capacity(machine.cores, machine.memory, services)


def check(spec: ClusterSpec, sizes: Mapping[str, int], before: Use) -> None:
    """Refuse sizes whose members this machine cannot hold, unless as much stands there already."""
    uses = {name: of_member(group) for name, group in spec.workers.items()}
    if why := refusal(uses, sizes, capacity(spec, this_machine()), before):
        raise PerennialError(f"{spec.name}: {why}")


def check_idle(spec: ClusterSpec, sizes: Mapping[str, int]) -> None:
    """Refuse more worker processes than have room here when they do nothing, whoever asks."""
    machine, processes = this_machine(), of_groups(spec, sizes).processes
    if processes > machine.most:
        raise PerennialError(
            f"{spec.name}: {processes:,} worker processes; this machine's"
            f" {machine.memory / 2**30:.0f} GiB hold at most {machine.most:,} idle ones;"
            " ask for fewer"
        )


def starting(group: WorkerGroup) -> int:
    """Say how many members of a group this machine starts at a time, as busy as it is now."""
    return capacities.starting(this_machine(), group.processes)
