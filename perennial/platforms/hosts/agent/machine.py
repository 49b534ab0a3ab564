"""What this machine has for members, and how busy it is; with the standard library alone."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from perennial.capacity import MachineResources
from perennial.cgroups import core_limit, memory_limit

#: The control groups at the root: services do not run in that of whoever looks.
_ROOT = "0::/\n1:memory:/"


def this_machine(proc: Path = Path("/proc")) -> MachineResources:
    """Look at the machine that this runs on."""
    found = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, size = line.partition(":")
        found[name] = int(size.split()[0]) * 1024 if size else 0
    memory = memory_limit(found["MemTotal"], _ROOT)
    load = float((proc / "loadavg").read_text().split()[0])
    cores = core_limit(len(os.sched_getaffinity(0)))
    return MachineResources(cores, memory, min(memory, found["MemAvailable"]), load)


def look() -> dict[str, float]:
    """Describe it to the operator."""
    return asdict(this_machine())
