"""Workers in an order, so that one is found without looking at all of them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

from benchmarks.scaler.tasks import Prefix, Worker
from perennial.scaler.values import MemberSeen

#: Below this number Dask compares every worker; above it, it is quick rather than exact.
FEW = 20


class Pool:
    """Workers that can run one kind of task; gives the least busy one."""

    def __init__(self) -> None:
        self.workers: dict[Worker, None] = {}
        self._heap: list[tuple[float, float, Worker]] = []

    def push(self, worker: Worker) -> None:
        """Note how busy a worker is now."""
        busy = len(worker.processing) / worker.nthreads
        heapq.heappush(self._heap, (busy, worker.order, worker))
        if len(self._heap) > 8 * len(self.workers) + 64:
            self._heap = [(len(w.processing) / w.nthreads, w.order, w) for w in self.workers]
            heapq.heapify(self._heap)

    def least_busy(self) -> Worker | None:
        """Find the worker with the fewest tasks for its threads."""
        heap = self._heap
        while heap:
            busy, _, worker = heap[0]
            if worker in self.workers and busy == len(worker.processing) / worker.nthreads:
                return worker
            heapq.heappop(heap)  # it has become busier or less busy, or has gone
        return None


class Indexed:
    """A set of workers of which the n-th can be taken."""

    def __init__(self) -> None:
        self._list: list[Worker] = []
        self._index: dict[Worker, int] = {}

    def __len__(self) -> int:
        return len(self._list)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._list)

    def __contains__(self, worker: Worker) -> bool:
        return worker in self._index

    def __getitem__(self, index: int) -> Worker:
        return self._list[index]

    def put(self, worker: Worker, inside: bool) -> None:
        """Add or remove a worker."""
        index = self._index.get(worker)
        if inside and index is None:
            self._index[worker] = len(self._list)
            self._list.append(worker)
        elif not inside and index is not None:
            last = self._list.pop()
            del self._index[worker]
            if last is not worker:
                self._list[index] = last
                self._index[last] = index


class Given:
    """How many tasks of each function all workers have been given, and how long these take."""

    def __init__(self) -> None:
        self._tasks: Counter[Prefix] = Counter()
        self._seconds: dict[Prefix, float] = {}

    def count(self, prefix: Prefix, more: int) -> None:
        """Count more tasks, or fewer; with none, take note of a new estimate."""
        tasks = self._tasks[prefix] = self._tasks[prefix] + more
        self._seconds[prefix] = tasks * prefix.estimate()

    @property
    def seconds(self) -> float:
        """All of them together."""
        return sum(self._seconds.values())


class Tally:
    """Sums over a group's workers, kept up to date."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.idle: dict[Worker, None] = {}  # those without any task
        self.parked: dict[Worker, None] = {}
        self.nbytes = self.spilled = self.limit = self.slots = 0
        self.version = 0  # of the names
        self.changed: dict[Worker, None] = {}  # since they were seen last
        self.seen: dict[str, MemberSeen] = {}  # those that have registered, and some that are gone

    @property
    def busy(self) -> int:
        """How many have a task."""
        return len(self.workers) - len(self.idle)
