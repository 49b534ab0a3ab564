"""The private folder of a run: control sockets, configurations, and what ssh says.

The first process of a run makes it, and ends at last whatever still stands in it; the processes
that it starts, such as the engine of a deploy, use it as well, so that a machine is logged in to
once.
"""

from __future__ import annotations

import atexit
import os
import resource
import select
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from perennial.ssh.mux import holder

#: Names the folder to the processes that are started.
VARIABLE = "PERENNIAL_SSH_FOLDER"
#: In the place of the usual one, whose path may be too long for a socket's.
_WHERE = Path("/tmp")  # noqa: S108 - mkdtemp makes it private
_PREFIX = "perennial-ssh-"
#: Files that this process may have open.
_FILES = 16_384
#: Seconds for a process to end.
_CLOSE_TIMEOUT = 2.0

_making = threading.Lock()
_own: list[tuple[int, Path]] = []


def folder() -> Path:
    """Return the folder of this run, and make it where there is none yet."""
    with _making:
        given = Path(os.environ.get(VARIABLE, "/"))
        if _is_ours(given):
            return given
        _sweep()
        _open_files()
        made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_WHERE))
        os.environ[VARIABLE] = str(made)
        _own[:] = [(os.getpid(), made)]
        return made


def owned() -> bool:
    """Whether this process has made the folder of this run."""
    return _own == [(os.getpid(), folder())]


def leave() -> None:
    """Use no folder of the process that has started this one: this one lives longer."""
    os.environ.pop(VARIABLE, None)


@atexit.register
def close() -> None:
    """End every connection of this run, where this process was its first."""
    with _making:
        for pid, made in _own:
            if pid == os.getpid():
                _remove(made)
                if os.environ.get(VARIABLE) == str(made):
                    del os.environ[VARIABLE]
        _own.clear()


def end(handles: Iterable[int]) -> None:
    """End processes, given as pidfds, and wait for it."""
    left = list(handles)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for handle in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        left = [each for each in left if not ended(each, deadline - time.monotonic())]


def ended(handle: int, timeout: float = 0.0) -> bool:
    """Whether a process, given as a pidfd, has ended within some seconds."""
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(max(0.0, timeout) * 1000))


def _remove(made: Path) -> None:
    """End what holds a folder's connections, those to jump hosts among them, and remove it."""
    handles = []
    for path in made.iterdir() if made.is_dir() else ():  # /tmp may have been cleaned
        if path.is_socket():
            with suppress(OSError):
                handles.append(holder(path, _CLOSE_TIMEOUT))
    end(handles)
    for each in handles:
        os.close(each)
    shutil.rmtree(made, ignore_errors=True)


def _sweep() -> None:
    """Remove what a process that was killed has left."""
    for path in _WHERE.glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists() and _is_ours(path):
            with suppress(OSError):
                _remove(path)


def _open_files() -> None:
    """Allow this process files for a thousand machines: five each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_ours(path: Path) -> bool:
    if not path.name.startswith(_PREFIX):
        return False
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and found.st_mode & 0o177777 == 0o40700
