"""What this machine has: cores and memory that its processes may really use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


#: Bytes that a worker process and its nanny take before they have anything to do; a lower limit.
IDLE = 100 * 2**20


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as a process on it sees it.

    Parameters
    ----------
    cores : int
        Cores, within the limits of a container or an affinity.
    memory : int
        Bytes of memory, within the limits of the control groups.
    available : int
        Bytes of it that nobody uses now.
    """

    cores: int
    memory: int
    available: int

    @property
    def most(self) -> int:
        """Worker processes that have room here when they do nothing; more would only thrash."""
        return max(1, self.memory // IDLE)


def this_machine() -> Machine:
    """Look at the machine that this runs on."""
    from dask.system import CPU_COUNT  # knows control groups and affinities

    own = Path("/proc/self/cgroup")
    path = own.read_text() if own.exists() else ""
    found = psutil.virtual_memory()
    memory = memory_limit(found.total, path)
    return Machine(int(CPU_COUNT), memory, min(memory, found.available))


def memory_limit(total: int, own: str, root: Path = _CGROUPS) -> int:
    """Find the lowest limit of memory on the way from a process's control group to the root.

    Parameters
    ----------
    total : int
        The machine's memory.
    own : str
        Text of ``/proc/self/cgroup``.
    root : pathlib.Path
        Where control groups are mounted.
    """
    limits = [total]
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        version_1 = "memory" in controllers.split(",")
        if controllers and not version_1:
            continue
        top, name = (
            (root / "memory", "memory.limit_in_bytes") if version_1 else (root, "memory.max")
        )
        group = top / path.lstrip("/")
        # Inside a container the path may be the host's; then the root itself is the limit.
        for folder in (group, *group.parents):
            text = _text(folder / name)
            if text.isdigit():
                limits.append(int(text))
            if folder == top:
                break
    return min(limits)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
