"""What is left of a service whose main process has gone: the rest of its process group.

An interpreter may be a script that starts Python and waits for it. The signal of a stop ends the
script alone, and the service lives on with its ports. supervisord makes each program the leader of
a group, so the group is what was started.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from signal import SIGTERM

import psutil

from perennial.supervision import listening
from perennial.supervision.supervisor import polls

#: Seconds in which the children of a process that has gone may end by themselves.
GRACE = 2.0


def group(leader: int) -> list[psutil.Process]:
    """List the processes of a group; psutil knows each again by its start time."""
    found = []
    for pid in psutil.pids() if leader else ():
        try:
            if os.getpgid(pid) == leader:
                found.append(psutil.Process(pid))
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def end(found: Sequence[psutil.Process], timeout: float, say: Callable[[str], None]) -> None:
    """End what still runs of these: SIGTERM to the topmost, SIGKILL to all after ``timeout``."""
    if not _wait(found, GRACE):
        left = _alive(found)
        pids = {process.pid for process in left}
        say(f"ending what it has left: {', '.join(f'process {pid}' for pid in sorted(pids))}")
        # As supervisord does: a worker's nanny drains it, and ends its worker itself.
        for process in left:
            _signal(process, lambda one: None if one.ppid() in pids else one.send_signal(SIGTERM))
        if not _wait(found, timeout):
            for process in _alive(found):
                _signal(process, psutil.Process.kill)
            _wait(found, GRACE)


def held_port(wanted: Collection[int]) -> str | None:
    """Say which of these ports still has a listener, and who that is; None when all are free."""
    for address, port, pid in listening.listeners():
        if port in wanted:
            return f"{address}:{port} is still held by {listening.describe(pid)}"
    return None


def _wait(found: Sequence[psutil.Process], timeout: float) -> bool:
    return any(not _alive(found) for _ in polls(timeout)) or not _alive(found)


def _alive(found: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [each for each in found if _runs(each)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, send: Callable[[psutil.Process], object]) -> None:
    try:
        send(process)
    except psutil.Error:
        return
