"""The cores and the memory of this machine that its processes may use."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from perennial.capacity import MachineResources
from perennial.cgroups import memory_limit


def this_machine() -> MachineResources:
    """Look at the machine that this runs on."""
    from dask.system import CPU_COUNT  # respects control groups and affinities

    own = Path("/proc/self/cgroup")
    path = own.read_text() if own.exists() else ""
    found = psutil.virtual_memory()
    memory = memory_limit(found.total, path)
    available = min(memory, found.available)
    return MachineResources(int(CPU_COUNT), memory, available, os.getloadavg()[0])
