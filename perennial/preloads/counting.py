"""Count a scheduler's tasks by what they need, at each change of a task.

A change costs the same however many tasks there are, and so does reading the sums.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from perennial.preloads.members import Process, Workers

#: States of tasks that ask something of a worker now or later.
LIVE = frozenset({"waiting", "queued", "no-worker", "processing"})

#: States of tasks for which there is no worker now.
SHORT = frozenset({"queued", "no-worker"})

#: Counts of which the durations are looked at at a time: a tenth of a millisecond.
TURN = 300
#: Counts that may be kept before those that have become zero are looked for.
COUNTS = 10_000


class Kind:
    """What tasks need of a worker, and how many there are that need it."""

    __slots__ = ("given", "held", "pinned", "resources", "waits")

    def __init__(self, resources: tuple[tuple[str, float], ...], pinned: bool) -> None:
        self.resources = resources
        self.pinned = pinned
        #: Tasks that the scheduler holds, by state, and that a group's workers have, by group.
        self.held: dict[str, Sum] = {}
        self.given: dict[str, Sum] = {}
        #: Since when those that nobody can run wait, the oldest first.
        self.waits: OrderedDict[Any, float] = OrderedDict()

    @property
    def sums(self) -> list[Sum]:
        """All sums over its tasks."""
        return [*self.held.values(), *self.given.values()]


class Sum:
    """Tasks of one kind in one place."""

    __slots__ = ("counts", "elapsed", "kind", "seconds", "tasks", "unknown")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.tasks = 0
        self.unknown = 0  # how many have a duration that is not known
        self.seconds = 0.0  # what the others take together
        self.elapsed = 0.0  # the longest that one of the unknown ones has run
        self.counts: dict[Any, Count] = {}

    def refresh(self) -> int:
        """Add up anew, with the durations that are known now; give how many counts there were."""
        looked = len(self.counts) + 1
        self.counts = {prefix: count for prefix, count in self.counts.items() if count.tasks}
        self.unknown, self.seconds, self.elapsed = 0, 0.0, 0.0
        for prefix, count in self.counts.items():
            count.seconds = prefix.duration_average
            if count.seconds >= 0:
                self.seconds += count.tasks * count.seconds
            else:
                self.unknown += count.tasks
                self.elapsed = max(self.elapsed, prefix.max_exec_time)
        return looked


class Count:
    """Those of a sum that have one prefix."""

    __slots__ = ("seconds", "tasks", "total")

    def __init__(self, total: Sum, seconds: float) -> None:
        self.total = total
        self.seconds = seconds
        self.tasks = 0

    def add(self, tasks: int) -> None:
        """Count so many tasks more, or fewer."""
        self.tasks += tasks
        total = self.total
        total.tasks += tasks
        if self.seconds >= 0:
            total.seconds += tasks * self.seconds
        else:
            total.unknown += tasks


class Counts:
    """Counts of the scheduler's tasks."""

    def __init__(self, workers: Workers, short: Callable[[], None] | None = None) -> None:
        self.workers = workers
        self.short = short
        self.plain = Kind((), False)  # what most tasks are
        self.kinds: dict[tuple[Any, ...], Kind] = {((), False): self.plain}
        #: Where each live task is counted: it has to be taken from there, whatever has become
        #: of it since. Tasks that have seceded are counted nowhere, as they need no thread.
        self.places: dict[Any, Count] = {}
        #: The process that each task in ``processing`` was given to.
        self.runs: dict[Any, Process] = {}
        #: Tasks that are held back and may run on one worker alone: its address, and how many
        #: there are by address. Without it, they would never run.
        self.bound: dict[Any, str] = {}
        self.binds: dict[str, int] = {}
        self._made = 0
        self._enough = COUNTS
        self._turn: Iterator[Sum] = iter(())

    def leave(self, key: Any) -> None:
        """Take a task out."""
        count = self.places.pop(key, None)
        if count is not None:
            count.add(-1)
            waits = count.total.kind.waits
            if waits:
                waits.pop(key, None)
        process = self.runs.pop(key, None)
        if process is not None:
            process.end()
        elif self.bound and key in self.bound:
            self._unbind(key)

    def enter(self, key: Any, task: Any, state: str, since: float | None = None) -> None:
        """Count a task."""
        kind = self.plain
        if task.resource_restrictions or task.worker_restrictions or task.host_restrictions:
            kind = self._kind(task, state)
        if state == "processing":
            process = self.workers.processes.get(task.processing_on.address)
            if process is None:
                process = self.workers.add(task.processing_on)
            self.runs[key] = process
            process.begin()
            sums, place = kind.given, process.member.group.name
        else:
            sums, place = kind.held, state
            if kind.pinned and len(task.worker_restrictions or ()) == 1:
                self._bind(key, *task.worker_restrictions)
        found = sums.get(place)
        count = found.counts.get(task.prefix) if found is not None else None
        if count is None:
            count = self._make(kind, sums, place, task.prefix)
        count.add(1)
        self.places[key] = count
        if self.short is not None and count.total.tasks == self._more(kind, state, key):
            self.short()
        if state == "no-worker":
            kind.waits[key] = monotonic() if since is None else since

    def move(self, key: Any, task: Any) -> None:
        """Count a task anew, of which something but its state has changed."""
        count = self.places.get(key)
        since = count.total.kind.waits.get(key) if count is not None else None
        self.leave(key)
        if task is None or task.state not in LIVE:
            return
        self.enter(key, task, task.state, since)
        worker = task.processing_on
        if worker is not None and task in worker.long_running:
            self.places.pop(key).add(-1)

    def look(self) -> None:
        """Look at the durations of some of the counts: of those whose turn it is."""
        looked = 0
        for each in self._turn:
            looked += each.refresh()
            if looked >= TURN:
                return
        self._prune()
        self._turn = iter([each for kind in self.kinds.values() for each in kind.sums])

    def look_at_all(self) -> None:
        """Look at the durations of all counts."""
        for kind in self.kinds.values():
            for each in kind.sums:
                each.refresh()
        self._prune()

    @property
    def few(self) -> bool:
        """Whether it costs nothing to look at all counts."""
        return self._made <= TURN

    def _more(self, kind: Kind, state: str, key: Any) -> int:
        """Return the number of tasks from which on another member would help; 0 for none.

        Tasks that need a resource are given to a worker at once, however many it has already; of
        others the scheduler gives at most twice the threads to a worker, if it holds them back.
        """
        if state in SHORT:
            return 1
        if state != "processing" or kind.pinned:
            return 0
        group = self.runs[key].member.group
        return 1 + (len(group.members) if kind.resources else 2 * group.threads)

    def _bind(self, key: Any, address: str) -> None:
        self.bound[key] = address
        self.binds[address] = self.binds.get(address, 0) + 1

    def _unbind(self, key: Any) -> None:
        address = self.bound.pop(key)
        self.binds[address] -= 1
        if not self.binds[address]:
            del self.binds[address]

    def _kind(self, task: Any, state: str) -> Kind:
        needs = needs_of(task, state)
        kind = self.kinds.get(needs)
        if kind is None:
            kind = self.kinds[needs] = Kind(*needs)
        return kind

    def _make(self, kind: Kind, sums: dict[str, Sum], place: str, prefix: Any) -> Count:
        if self._made >= self._enough:
            self.look_at_all()
            self._enough = max(COUNTS, 2 * self._made)
            self.kinds.setdefault((kind.resources, kind.pinned), kind)
        found = sums.get(place)
        if found is None:
            found = sums[place] = Sum(kind)
        count = found.counts[prefix] = Count(found, prefix.duration_average)
        self._made += 1
        return count

    def _prune(self) -> None:
        """Forget what is zero."""
        for needs, kind in list(self.kinds.items()):
            for sums in (kind.held, kind.given):
                for place in [place for place, each in sums.items() if not each.tasks]:
                    del sums[place]
            if not kind.held and not kind.given and kind is not self.plain:
                del self.kinds[needs]
        self._made = sum(len(each.counts) for kind in self.kinds.values() for each in kind.sums)


def needs_of(task: Any, state: str = "") -> tuple[tuple[tuple[str, float], ...], bool]:
    """Return what a task needs: resources, sorted by name, and whether it names a worker or a host.

    One with ``allow_other_workers`` may run anywhere; but once it waits for a worker, Dask looks
    only whether a new one is one of those that it names.
    """
    resources = task.resource_restrictions or {}
    amounts = sorted((str(name), float(amount)) for name, amount in resources.items())
    named = bool(task.worker_restrictions or task.host_restrictions)
    return tuple(amounts), named and (state == "no-worker" or not task.loose_restrictions)
