"""Run a program at most once: supervisord starts each service through this file.

The file lock on ``LOCK`` is taken here and kept by the program itself, because the open file
survives ``exec``. So the lock is held exactly as long as the program's main process runs: the
kernel releases it, and there is no stale pid file. When the lock is held already, supervisord was
killed and its services live on without it; then this process stands in for the service: it waits
for it, passes signals on, and leaves when it has left. Nobody's work is lost with supervisord, and
there are never two schedulers.

Output goes straight to the service's log file and not through a pipe of supervisord's, so
that an adopted service keeps its log as well.

Whatever the program needs to start is made here, at each start: a cleaner may have removed it.

Runs as ``python -I -S hold.py [--folder FOLDER]... [--directory FOLDER] LOCK LOG PROGRAM
ARGUMENT...`` and needs the standard library
alone: it is replaced by the program in about 20 ms and costs no memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import signal
import sys
import time
from types import FrameType

#: Variable that names the file into which the program writes its process id once it is ready.
READY = "PERENNIAL_READY"

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


#: Stands before a folder that is this user's alone: made where it is missing, else refused.
FOLDER = "--folder"
#: Stands before the working folder of the program.
DIRECTORY = "--directory"


def main(*words: str) -> int:
    """Exec the program, or stand in for the one that already runs."""
    options: list[tuple[str, str]] = []
    while words[0] in (FOLDER, DIRECTORY):
        options.append((words[0], words[1]))
        words = words[2:]
    lock_path, log_path, *argv = words
    for path in (lock_path, log_path):
        os.makedirs(os.path.dirname(os.path.abspath(path)), 0o700, exist_ok=True)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    while not _locked(lock):
        pid, _ = _read(lock)
        if pid and _stand_in(pid, lock, standing_in(lock_path)):
            # Left while adopted: supervisord starts the service anew, as after any exit.
            return 1
        # The holder has not written its id yet, or is about to be gone.
        time.sleep(0.05)
    _, starts = _read(lock)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {starts + 1}\n".encode(), 0)
    os.set_inheritable(lock, True)
    os.environ[READY] = os.path.abspath(ready_mark(lock_path))
    for option, folder in options:
        if fault := _made(folder, own=option == FOLDER):
            print(f"perennial: {folder}: {fault}", flush=True)
            return 1
        if option == DIRECTORY:
            os.chdir(folder)
    os.execvp(argv[0], argv)  # noqa: S606 - the program of the unit, no shell


def _made(folder: str, own: bool) -> str:
    """Make a folder where it is missing; say why it cannot be used, if so.

    The rule of `perennial.paths.fault_of_owner`, which this file cannot import: who owns a folder
    on a shared disk owns what is spilled into it.
    """
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        found = (os.lstat(folder), os.stat(folder))
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    owners = {each.st_uid for each in found} - {os.geteuid()}
    if own and owners:
        return f"belongs to user {min(owners)}, not to user {os.geteuid()}; remove it"
    if own and found[1].st_mode & 0o022:
        return f"others may write to it (mode {found[1].st_mode & 0o7777:04o}); remove it"
    return "" if usable else "this user may not write to it"


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(lock: int) -> tuple[int, int]:
    words = os.pread(lock, 64, 0).split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return 0, 0
    return int(words[0]), int(words[1])


def holder(lock_path: str | os.PathLike[str]) -> tuple[int, int]:
    """Who holds a service's lock."""
    try:
        lock = os.open(lock_path, os.O_RDWR)
    except OSError:
        return 0, 0
    try:
        pid, starts = _read(lock)
        return (0, starts) if _locked(lock) or not _has(pid, lock) else (pid, starts)
    finally:
        os.close(lock)


def signal_holder(lock_path: str | os.PathLike[str], number: int) -> bool:
    """Signal the process that holds a service's lock, and never another; whether there is one.

    A number in a file may be another process's by now, or one of another machine that shares the
    folder. So the process is pinned first and must have the lock file open then: that says more
    than its start time, also of what an earlier version has started.
    """
    pid, _ = holder(lock_path)
    try:
        process = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return False
    if process < 0:
        return False
    try:
        if holder(lock_path)[0] != pid:
            return False
        signal.pidfd_send_signal(process, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(process)


def _has(pid: int, lock: int) -> bool:
    """Whether a process of this machine has the lock file open."""
    wanted = os.fstat(lock)
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:  # the lock has one of the first numbers
                with contextlib.suppress(OSError):
                    found = os.stat(entry.path)
                    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                        return True
    except OSError:
        return False
    return False


def ready_mark(lock_path: str | os.PathLike[str]) -> str:
    """File that holds the process id of a service that has said that it is ready."""
    return f"{os.fspath(lock_path)}.ready"


def abandoned_mark(lock_path: str | os.PathLike[str]) -> str:
    """File in which a member that leaves before its drain is complete says what it abandons."""
    return f"{ready_mark(lock_path)}.abandoned"


def is_ready(lock_path: str | os.PathLike[str]) -> bool:
    """Whether a service runs, and has said that it is ready where it was asked to."""
    pid, _ = holder(lock_path)
    with contextlib.suppress(OSError):
        # Others than root's may write there: neither a link is followed nor a pipe waited for.
        mark = os.open(ready_mark(lock_path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if os.read(mark, 64) == str(pid).encode():
                return bool(pid)
        finally:
            os.close(mark)
    return bool(pid) and not _asked(pid)


def _asked(pid: int) -> bool:
    """Whether a service was asked; one that an earlier version has started was not."""
    try:
        # Until it has become the service, it has the environment that it was started with, and in
        # the middle of that none.
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read()
        # This is read on other machines as well, where it is no file: hence its name in words.
        becoming = not words or not variables or b"/hold.py\0" in words
        return becoming or f"{READY}=".encode() in variables
    except OSError:
        return True


def forget(lock_path: str | os.PathLike[str]) -> None:
    """Count the starts of a service from zero again; does nothing while it runs."""
    try:
        lock = os.open(lock_path, os.O_RDWR)
    except OSError:
        return
    try:
        if _locked(lock):
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def standing_in(lock_path: str | os.PathLike[str]) -> str:
    """File that holds the process id of who stands in for a service, once it does."""
    return f"{os.fspath(lock_path)}.adopted"


def _stand_in(pid: int, lock: int, mark: str) -> bool:
    """Wait for a process that is not our child; pass on the signals that we get."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    if not _has(pid, lock):  # the number is another process's
        os.close(process)
        return False

    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    # Only now may a signal come: see `perennial.supervision.cluster.Cluster`.
    # This user's alone, whatever the umask is that the program gets.
    with open(mark, "w", opener=functools.partial(os.open, mode=0o600)) as file:
        file.write(str(os.getpid()))
    print(f"perennial: adopted process {pid}, which outlived its supervisord", flush=True)
    while not select.select([process], [], [], 60.0)[0]:
        pass
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
