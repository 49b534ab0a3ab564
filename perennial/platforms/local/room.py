"""What a cluster's members may use, against what a machine can hold."""

from __future__ import annotations

from collections.abc import Mapping

from perennial import capacity as capacities
from perennial.capacity import MEANT, Capacity, MachineResources, Use, refusal
from perennial.errors import PerennialError
from perennial.platforms.local.machine import this_machine
from perennial.sizes import of_each, of_services
from perennial.spec import ClusterSpec
from perennial.spec.models import WorkerGroup


def capacity(spec: ClusterSpec, machine: MachineResources) -> Capacity:
    """Say what a machine holds on which all services of a cluster stand."""
    return Capacity(machine.cores, machine.memory, of_services(spec))


def check(spec: ClusterSpec, sizes: Mapping[str, int], before: Use, meant: str = MEANT) -> None:
    """Refuse sizes whose members this machine cannot hold, unless as much stands there already.

    ``meant`` is how a person says that they mean it; empty where they have.
    """
    holds = capacity(spec, this_machine())
    if why := refusal(of_each(spec), sizes, holds, before, meant=meant):
        raise PerennialError(f"{spec.name}: {why}")


def starting(group: WorkerGroup) -> int:
    """Say how many members of a group this machine starts at a time, as busy as it is now."""
    return capacities.starting(this_machine(), group.processes)
