"""An event listener of supervisord's: restarts a scheduler that hangs, rotates the logs.

supervisord sends it an event every five seconds. A scheduler that has been well and then has
not answered its ``/health`` for as long as the watchdog allows is killed with SIGKILL (its
event loop would not see anything milder); supervisord starts it again. The process is known
by the lock file that `perennial.supervision.single_instance` keeps, so this also serves
adopted processes.

Runs as ``python -m perennial.local.health SOCKET WATCHDOG LOCK LOGS MAXBYTES BACKUPS``; it
imports little, because it stays in memory beside every cluster.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection

from perennial.fetching import get
from perennial.supervision.single_instance import holder, signal_holder
from perennial.unix import UnixConnection

#: Seconds that a scheduler may take until it answers for the first time.
START = 120.0
TIMEOUT = 5.0


class Watchdog:
    """Decides when a process that does not answer has hung."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._pid = 0
        self._deadline = 0.0

    def hung(self, pid: int, answered: bool, now: float) -> bool:
        """Record one check of the process; return whether it has hung."""
        if pid != self._pid:
            self._pid = pid
            self._deadline = now + max(self.limit, START)
        if answered:
            self._deadline = now + self.limit
        hung = bool(pid and self.limit and not answered and now >= self._deadline)
        if hung:  # said once: it takes a moment until another process is in its place
            self._deadline = now + max(self.limit, START)
        return hung


def answers(where: Sequence[str], timeout: float = TIMEOUT) -> bool:
    """Whether ``GET /health`` is answered with 200."""
    if len(where) == 1:
        return get(UnixConnection(where[0], timeout), "/health") is not None
    host, port = where
    return get(HTTPConnection(host, int(port), timeout=timeout), "/health") is not None


def rotate(folder: str, maxbytes: int, backups: int) -> None:
    """Copy logs that have grown aside and empty them.

    Programs write with O_APPEND, so an emptied file stays right; lines written between copy
    and emptying are lost, which a log may.
    """
    for entry in os.scandir(folder):
        if not entry.name.endswith(".log") or entry.stat().st_size <= maxbytes:
            continue
        for number in range(backups - 1, 0, -1):
            if os.path.exists(f"{entry.path}.{number}"):
                os.replace(f"{entry.path}.{number}", f"{entry.path}.{number + 1}")
        with open(entry.path, "rb") as source, open(f"{entry.path}.1", "wb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
        os.truncate(entry.path, 0)


def say(text: str) -> None:
    """Write a line to the listener's log (standard output belongs to supervisord)."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{stamp} perennial health: {text}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Answer supervisord's events for ever."""
    *where, limit, lock, logs, maxbytes, backups = argv
    watchdog = Watchdog(float(limit))
    while True:
        print("READY", flush=True)
        header = sys.stdin.readline()
        if not header:
            return
        fields = dict(field.split(":", 1) for field in header.split())
        sys.stdin.read(int(fields["len"]))
        try:
            pid, _ = holder(lock)
            if watchdog.hung(pid, answers(where), time.monotonic()):
                say(f"scheduler (pid {pid}) has not answered for {limit} s: killed, restarting")
                signal_holder(lock, signal.SIGKILL)
            rotate(logs, int(maxbytes), int(backups))
        except OSError as error:
            say(f"{error}")
        print("RESULT 2\nOK", end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
