"""One writer at a time: a second `perennial up` waits for the first, and names it."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perennial.errors import PerennialError
from perennial.files import make_private
from perennial.paths import ClusterPaths
from perennial.placement import require_here

#: Descriptors of the locks that this process holds, by their path.
_held: dict[Path, int] = {}

#: Seconds to wait for another command before giving up.
TIMEOUT = 600.0


@contextmanager
def exclusive(path: Path, say: Callable[[str], None], timeout: float = TIMEOUT) -> Iterator[None]:
    """Hold a cluster's lock; the kernel releases it when this process ends, however it ends."""
    require_here(ClusterPaths(path.parent))
    make_private(path.parent)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout
        announced = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(lock, 1000, 0).decode(errors="replace").strip()
                if time.monotonic() > deadline:
                    raise PerennialError(
                        f"{path.parent.name}: {holder} still holds the lock after {timeout:g} s;"
                        " wait for it or end it, then run this again"
                    ) from None
                if not announced and holder:
                    say(f"waiting for {holder}")
                    announced = True
                time.sleep(0.1)
        command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200]
        since = time.strftime("%H:%M:%S")
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} (`{command}`, since {since})\n".encode(), 0)
        _held[path] = lock
        yield
    finally:
        _held.pop(path, None)
        os.close(lock)


def held() -> tuple[int, ...]:
    """Descriptors of the locks held here: a process that gets one holds the lock as well."""
    return tuple(_held.values())
