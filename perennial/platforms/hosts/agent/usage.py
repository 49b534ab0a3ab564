"""What the services of a cluster use of this machine."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.platforms.hosts.agent import facts

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Usage

#: Seconds over which the processor time is measured.
INTERVAL = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage(cluster: str) -> dict[str, Usage]:
    """Measure each service with all that it has started."""
    members = facts.members(cluster)
    families = {
        name: list(facts.family(member["pid"])) if member["pid"] else []
        for name, member in members.items()
    }
    before = {name: sum(map(_ticks, pids)) for name, pids in families.items()}
    time.sleep(INTERVAL)
    found: dict[str, Usage] = {}
    for name, pids in families.items():
        spent = max(0, sum(map(_ticks, pids)) - before[name])
        found[name] = {
            **members[name],
            "uptime": _uptime(pids[0]) if pids else 0.0,
            "memory": sum(map(_memory, pids)),
            "cpu": spent / _TICKS / INTERVAL,
        }
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (proc(5)); empty when it is gone."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _uptime(pid: int) -> float:
    fields = _stat(pid)
    up = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, up - int(fields[19]) / _TICKS) if fields else 0.0


def _memory(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0
