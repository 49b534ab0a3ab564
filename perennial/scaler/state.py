"""What a scaler remembers on disk, so that one that was killed goes on where it stopped.

All of it stands in one folder, readable by its user alone, and all of it can be lost: what there
is is found again at the scheduler and on the platform, and a member that was parked and that
nobody remembers is brought back.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time as clocks
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from perennial.errors import PerennialError
from perennial.files import make_private, read_json, write_json
from perennial.scaler.boot import boot, elapsed, uptime
from perennial.scaler.values import History

_HISTORY = TypeAdapter(History)


@contextmanager
def lock(folder: Path, cluster: str) -> Iterator[None]:
    """Hold the lock of a cluster's scaler; the kernel releases it when the process ends."""
    make_private(folder)
    path = folder / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 1000, 0).decode(errors="replace").strip() or "somebody"
            raise PerennialError(
                f"{cluster}: found another scaler ({holder}), which holds {path}; allowed: one at"
                " a time; stop that one, or leave it running"
            ) from None
        since = clocks.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(handle, 0)
        who = f"process {os.getpid()} on {socket.gethostname()}, since {since}\n"
        os.pwrite(handle, who.encode(), 0)
        yield
    finally:
        os.close(handle)


class Clock:
    """A clock that is never set back, and that goes on where a scaler before this one stopped.

    Between two scalers it takes the time from the machine's boot, and only across a boot from the
    clock on the wall: a wall clock that jumps changes no decision.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._offset = start - clocks.monotonic()

    def __call__(self) -> float:
        """Seconds since some time."""
        return clocks.monotonic() + self._offset


class SavedState:
    """What the policy remembers and the clock by which it does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.json"
        self.note = ""
        self.history = History()
        start = 0.0
        try:
            found = read_json(self.path, missing={})
            self.history = _HISTORY.validate_python(found.get("history", {}))
            start = float(found.get("now", 0.0)) + (_away(found) if found else 0.0)
        except (PerennialError, ValidationError, ValueError, TypeError, AttributeError) as error:
            lines = str(error).splitlines()
            self.note = f"{self.path} is damaged ({lines[0]}): start-up times are learned anew"
        except OSError as error:
            self.note = f"{self.path} cannot be read ({error}): start-up times are learned anew"
        self.clock = Clock(start)

    def save(self, history: History) -> None:
        """Write it down."""
        self.history = history
        # Before the clock is read: what passes between the two is then counted twice, not lost, and
        # the next scaler's clock is not behind this one's.
        passed = uptime()
        value = {
            "history": _HISTORY.dump_python(history, mode="json"),
            "now": self.clock(),
            "wall": clocks.time(),
            "boot": boot(),
            "uptime": passed,
        }
        write_json(self.path, value)


def _away(found: Mapping[str, Any]) -> float:
    """Seconds since a memory was written."""
    passed = elapsed(found.get("boot"), float(found.get("uptime", 0.0)))
    return max(0.0, clocks.time() - float(found.get("wall", 0.0))) if passed is None else passed
