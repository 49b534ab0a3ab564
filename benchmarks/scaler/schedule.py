"""Tasks given greedily to slots by somebody who knows all of them, and the members for that."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.scaler.tasks import Request, Task
from benchmarks.scaler.world import Trace
from perennial.scaler.values import Group, Signature

Span = tuple[float, float]


def able(needs: Signature, group: Group) -> bool:
    """Whether a group can run tasks of a signature."""
    return all(group.resources.get(name, 0) >= much for name, much in needs.resources)


def feasible(trace: Trace) -> list[Request]:
    """List the requests that can be run."""
    return [request for request in trace.everything if request.feasible]


def paths(request: Request) -> dict[Task, float]:
    """Find the longest path that begins with each task."""
    found: dict[Task, float] = {}
    for task in reversed(request.tasks):  # inputs stand before those who read them
        found[task] = task.seconds + max((found[user] for user in task.users), default=0.0)
    return found


class Schedule:
    """A greedy schedule: the requests in their order, in a request the longest path first.

    Parameters
    ----------
    trace : Trace
        The work.
    start_up : float
        When the slots are there.
    sizes : mapping of str to int
        Members of each group.
    deadlines : sequence of float
        When each request must have ended; the schedule is given up when one has not.
    """

    def __init__(
        self,
        trace: Trace,
        start_up: float,
        sizes: Mapping[str, int],
        deadlines: Sequence[float] = (),
    ) -> None:
        self.trace, self.start_up, self.deadlines = trace, start_up, deadlines
        self.requests = feasible(trace)
        self.groups = [group for group in trace.rules.groups if sizes[group.name]]
        self.index = {t: i for i, request in enumerate(self.requests) for t in request.tasks}
        self.path = {t: one for request in self.requests for t, one in paths(request).items()}
        self.waits = {task: len(task.inputs) for task in self.index}
        self.left = [len(request.tasks) for request in self.requests]
        self.begins = [0.0] * len(self.requests)
        self.ends = [math.inf] * len(self.requests)
        self.free = {group.name: sizes[group.name] * group.slots for group in self.groups}
        self.ready: dict[str, list[tuple[int, float, int, Task]]] = {g: [] for g in self.free}
        self.busy: dict[str, list[Span]] = {group.name: [] for group in trace.rules.groups}
        self.events: list[tuple[float, int, Task | Request, str]] = []
        self._homes: dict[Signature, str] = {}
        self._count = 0

    def run(self) -> bool:
        """Make it; say whether all deadlines are kept."""
        first_round = len(self.requests) - len(self.trace.rounds)
        for request in self.requests[: first_round + 1]:
            self._at(request.time, request, "")
        while self.events:
            now, _, what, group = heapq.heappop(self.events)
            if isinstance(what, Request):
                self.begins[self.index[what.tasks[0]]] = now
                self._offer(what.tasks)
            elif not self._ended(what, group, now, first_round):
                return False
            if not self.events or self.events[0][0] > now:
                self._give(max(now, self.start_up))
        return True

    def _ended(self, task: Task, group: str, now: float, first_round: int) -> bool:
        self.free[group] += 1
        for user in task.users:
            self.waits[user] -= 1
        self._offer(task.users)
        i = self.index[task]
        self.left[i] -= 1
        if not self.left[i]:
            self.ends[i] = now
            if i >= first_round and i + 1 < len(self.requests):
                following = self.requests[i + 1]
                self._at(now + following.time, following, "")
            return not self.deadlines or now <= self.deadlines[i] + 1e-6
        return True

    def _at(self, time: float, what: Task | Request, group: str) -> None:
        self._count += 1
        heapq.heappush(self.events, (time, self._count, what, group))

    def _offer(self, tasks: Iterable[Task]) -> None:
        """Put tasks that are ready before the cheapest group that can run them."""
        for task in tasks:
            if not self.waits[task]:
                home = self._homes.get(task.needs)
                if home is None:
                    there = [group for group in self.groups if able(task.needs, group)]
                    home = min(there, key=lambda group: group.cost / group.slots).name
                    self._homes[task.needs] = home
                self._count += 1
                entry = (self.index[task], -self.path[task], self._count, task)
                heapq.heappush(self.ready[home], entry)

    def _give(self, begin: float) -> None:
        for group, ready in self.ready.items():
            while ready and self.free[group]:
                task = heapq.heappop(ready)[3]
                self.free[group] -= 1
                self.busy[group].append((begin, begin + task.seconds))
                self._at(begin + task.seconds, task, group)


def levels(busy: Iterable[Span], slots: int, start_up: float) -> Iterator[Span]:
    """Cut the use of slots over time into members: when each is asked for, and when stopped."""
    edges: defaultdict[float, int] = defaultdict(int)
    for begin, end in busy:
        edges[round(begin, 6)] += 1
        edges[round(end, 6)] -= 1
    spans: list[list[list[float]]] = []  # by level
    used = 0
    for time in sorted(edges):
        before = math.ceil(used / slots)
        used += edges[time]
        after = math.ceil(used / slots)
        spans.extend([] for _ in range(after - len(spans)))
        for level in spans[before:after]:
            if level and time - level[-1][1] <= start_up:
                level[-1][1] = math.inf  # keeping it is cheaper than a new start
            else:
                level.append([time - start_up, math.inf])
        for level in spans[after:before]:
            level[-1][1] = time
    for level in spans:
        yield from ((begin, end) for begin, end in level)
