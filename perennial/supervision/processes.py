"""How many processes and threads this user may have, and what ends when there are no more."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from perennial.cgroups import CGROUPS, above
from perennial.supervision.logs import END

_EXHAUSTED = re.compile(
    r"can't start new thread|cannot fork|fork: retry|pthread_create failed"
    r"|BlockingIOError: \[Errno 11\] Resource temporarily unavailable"
)


def limit(kind: int = 1) -> int | None:
    """Read how many this user may have; None for any number, as root may."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[kind]
    return None if most == resource.RLIM_INFINITY or os.getuid() == 0 else most


def used() -> int:
    """Count the processes and threads of this user."""
    number = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            number += process.num_threads() if process.uids().real == os.getuid() else 0
    return number


def cause(error: BaseException) -> str:
    """Say why an error came up here, when no process or thread could be started; else empty."""
    fork = isinstance(error, BlockingIOError) and error.strerror == os.strerror(errno.EAGAIN)
    return _reason(0) if fork or "can't start new thread" in str(error) else ""


def cause_in(log: Path) -> str:
    """Say the same of the end of a service's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - END))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return _reason(1) if _EXHAUSTED.search(text) else ""


def _reason(kind: int) -> str:
    most = limit(kind)
    if most is not None:
        return (
            f"no more processes or threads can be started: this user has {used()} of at most {most}"
            " (`ulimit -u`); end some, or raise `nproc` in /etc/security/limits.conf, log in anew"
        )
    own = Path("/proc/self/cgroup")
    groups = list(control_groups(own.read_text() if own.exists() else ""))
    if groups:
        folder, least = min(groups, key=lambda each: each[1])
        return (
            f"no more processes or threads can be started: {folder}/pids.max allows {least}; end"
            " some, or raise the limit of the container or the unit (TasksMax=)"
        )
    return (
        "no more processes or threads can be started; end some, or see kernel.pid_max,"
        " kernel.threads-max and the free memory"
    )


def control_groups(own: str, root: Path = CGROUPS) -> Iterator[tuple[Path, int]]:
    """Find the control groups above a process that limit its number of threads."""
    for folder, _ in above(own, "pids", root):
        with suppress(OSError, ValueError):
            yield folder, int((folder / "pids.max").read_text())
