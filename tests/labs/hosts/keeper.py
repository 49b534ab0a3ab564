"""A user's program that keeps results on a cluster for as long as it runs; run by test_soak.

It holds 1,000 computed results and 100 scattered values, and computes something small all the
time. Commands come as lines on its standard input; the answer to each is a line of JSON:

``fullest``
    The name of the worker with the most results.
``holders WORKER``
    How many scattered values are on this worker and nowhere else.
``check``
    ``lost``: computed results that are gone or wrong. ``gone``: scattered values that are.
    They are scattered anew, so that there are always 100. ``longest``: the longest time
    that something small took since the last check. ``computed``: how often the scheduler was
    given a result of the 1,000, over all.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from distributed import Client, Future, SchedulerPlugin, wait

COMPUTED, SCATTERED = 1000, 100
#: Seconds for what is lost to be computed again.
PATIENCE = 180.0


def triple(number: int) -> tuple[int, bytes]:
    """Compute something that can be checked, and takes some memory."""
    return 3 * number, b"x" * 10_000


def small(number: int) -> int:
    """Compute something small."""
    return number + 1


class Counter(SchedulerPlugin):
    """Counts how often each of the results came into being."""

    name = "counter"
    done = 0

    def transition(self, key: Any, start: str, finish: str, *_args: Any, **_more: Any) -> None:
        """Count a result that a worker has computed."""
        if start == "processing" and finish == "memory" and str(key).startswith("triple-"):
            self.done += 1


class Keeper:
    """Holds futures, and computes beside them.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        client.register_plugin(Counter())
        self.computed: list[Future] = client.map(triple, range(COMPUTED), pure=False)
        self.scattered: list[Future] = [self.scatter(n) for n in range(SCATTERED)]
        wait(self.computed, timeout=PATIENCE)
        self.longest = 0.0
        self.begun = time.monotonic()
        threading.Thread(target=self.work, daemon=True).start()

    def scatter(self, number: int) -> Future:
        """Put a value on some worker; its key is one that was never there."""
        data = b"%d" % number * 1000
        return self.client.scatter([data], hash=False)[0]

    def work(self) -> None:
        """Compute something small, again and again."""
        number = 0
        while True:
            number += 1
            self.begun = time.monotonic()
            assert self.client.submit(small, number, pure=False).result() == number + 1
            self.longest = max(self.longest, time.monotonic() - self.begun)
            time.sleep(0.05)

    def names(self) -> dict[str, str]:
        """Name of each worker, by its address."""
        everything = self.client.sync(self.client.scheduler.identity, n_workers=-1)["workers"]
        return {address: str(each["name"]) for address, each in everything.items()}

    def fullest(self) -> str:
        """Name the worker with the most results."""
        names = self.names()
        found = self.client.has_what()
        return names[max(names, key=lambda address: len(found.get(address, ())))]

    def holders(self, worker: str) -> int:
        """Count the scattered values that are on one worker alone."""
        names = self.names()
        found = self.client.who_has(self.scattered)
        return sum({names.get(who) for who in each} <= {worker} for each in found.values())

    def check(self) -> dict[str, Any]:
        """See what is still there."""
        wait(self.computed, timeout=PATIENCE)
        status = [future.status for future in self.computed]
        found = [future for future in self.computed if future.status == "finished"]
        values = {value for value, _ in self.client.gather(found)}
        gone = [n for n, future in enumerate(self.scattered) if not self.is_there(n, future)]
        for number in gone:
            self.scattered[number] = self.scatter(number)
        # What is still being waited for has taken so long by now.
        longest = max(self.longest, time.monotonic() - self.begun)
        self.longest = 0.0
        return {
            "lost": COMPUTED - len({3 * n for n in range(COMPUTED)} & values),
            "states": sorted(set(status)),
            "gone": len(gone),
            "longest": longest,
            "computed": self.client.run_on_scheduler(_count),
        }

    def is_there(self, number: int, future: Future) -> bool:
        """Whether a scattered value can still be had, and is right."""
        if future.status != "finished":
            return False
        return bool(self.client.gather(future) == b"%d" % number * 1000)


def _count(dask_scheduler: Any) -> int:
    return int(dask_scheduler.plugins[Counter.name].done)


def main() -> None:
    """Hold results; answer commands until there are no more."""
    with Client(timeout=60) as client:
        keeper = Keeper(client)
        print(json.dumps(keeper.check()), flush=True)
        for line in sys.stdin:
            command, *words = line.split()
            print(json.dumps(getattr(keeper, command)(*words)), flush=True)


if __name__ == "__main__":
    main()
