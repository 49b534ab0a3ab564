"""What it costs here to ask many machines by SSH: real `ssh`, and one sshd of many names.

The machine is this one, so the time is that of both ends, and of as many Pythons.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.measure import clock
from perennial.platforms.hosts import remote
from perennial.platforms.hosts.machine_services import Target
from perennial.platforms.hosts.operator import AT_ONCE
from tests.ssh.sshd import make_place, masters

NOTHING: dict[str, list[str]] = {"ports": [], "claims": []}


@dataclass(slots=True)
class Cost:
    """What it took."""

    seconds: float = 0.0
    #: Most processes of `ssh` at a time.
    processes: int = 0
    #: Most memory of them and of this process that nobody shares, in MiB.
    memory: float = 0.0


def asked(count: int) -> Cost:
    """Ask so many machines for what a deploy looks at first."""
    cost, over = Cost(), threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            found = masters()
            cost.processes = max(cost.processes, len(found))
            cost.memory = max(cost.memory, sum(map(_own, [os.getpid(), *found])))

    def ask(target: Target) -> None:
        with remote.borrowed(target) as agent:
            agent.ask("look", cluster="bench", names=["127.0.0.1"], interface=None, **NOTHING)

    with pytest.MonkeyPatch.context() as patch:
        made = make_place(patch)
        place = next(made)
        # One sshd refuses some of so many logins at a time; a thousand of them would not.
        port = place.another("many", "MaxStartups 500:30:1000").port
        targets = [Target(f"m-{n}", "127.0.0.1", port=port) for n in range(count)]
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                cost.seconds = clock(lambda: list(pool.map(ask, targets)))
        finally:
            over.set()
            watcher.join()
            remote.close()
            next(made, None)
    return cost


def _own(pid: int) -> float:
    """Memory of a process that it shares with no other, in MiB."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kept = [line.split() for line in lines if line.startswith("Private_")]
        return sum(int(words[1]) for words in kept) / 1024
    return 0.0


def row(count: int) -> str:
    """Write a line of the table."""
    cost = asked(count)
    return (
        f"| (t) {count:,} machines looked at by SSH, {AT_ONCE} at a time: {cost.seconds:.0f} s,"
        f" at most {cost.processes} processes of `ssh` and {cost.memory:.0f} MiB |"
    )


if __name__ == "__main__":
    print(row(int(sys.argv[1])))
