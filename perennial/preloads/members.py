"""A scheduler's workers by group and member, brought up to date at each change.

Reading the sums of a group costs nothing. What Dask announces nowhere, the memory of the
workers, is looked at by turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from time import monotonic
from typing import Any

from perennial.preloads.messages import Names

#: Dask's word for a worker that is parked.
PARKED = "closing_gracefully"

#: Dask's words for a worker, the worst last.
STATUSES = ("running", "init", "paused", PARKED)

#: Changes of the members' names that are remembered.
CHANGES = 2_000


class Group:
    """A group's members, and sums over them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, SeenMember] = {}
        self.parked: set[SeenMember] = set()
        self.busy = self.threads = 0
        self.memory = self.limit = self.nbytes = self.spilled = 0


class SeenMember:
    """A member: the worker processes that start and leave together."""

    def __init__(self, name: str, group: Group) -> None:
        self.name = name
        self.group = group
        self.processes: dict[str, Process] = {}
        self.busy = 0  # processes that have tasks
        self.since = monotonic()  # since when no process has tasks

    @property
    def status(self) -> str:
        """Dask's word for the worst-off of its processes."""
        if len(self.processes) == 1:
            (process,) = self.processes.values()
            return str(process.worker.status.name)
        words = {str(process.worker.status.name) for process in self.processes.values()}
        return max(words, key=lambda word: STATUSES.index(word) if word in STATUSES else 0)

    def settle(self) -> None:
        """Find out whether it is parked: whether all of its processes are."""
        states = [process.worker.status.name for process in self.processes.values()]
        if states and all(state == PARKED for state in states):
            self.group.parked.add(self)
        else:
            self.group.parked.discard(self)


class Process:
    """A worker process."""

    __slots__ = ("here", "member", "memory", "nbytes", "spilled", "tasks", "worker")

    def __init__(self, worker: Any, member: SeenMember) -> None:
        self.worker = worker
        self.member = member
        self.tasks = self.memory = self.nbytes = self.spilled = 0
        self.here = True

    def sample(self) -> None:
        """Look at its memory, and bring the sums of its group up to date."""
        if not self.here:
            return
        worker, group = self.worker, self.member.group
        metrics = worker.metrics
        memory, nbytes = metrics.get("memory", 0), worker.nbytes
        spilled = metrics.get("spilled_bytes", {}).get("disk", 0)
        group.memory += memory - self.memory
        group.nbytes += nbytes - self.nbytes
        group.spilled += spilled - self.spilled
        self.memory, self.nbytes, self.spilled = memory, nbytes, spilled

    def begin(self) -> None:
        """Count a task that is given to it."""
        self.tasks += 1
        if self.tasks == 1 and self.here:
            self._wake()

    def end(self) -> None:
        """Count a task that it has no more."""
        self.tasks -= 1
        if self.tasks == 0 and self.here:
            self._rest()

    def join(self) -> None:
        """Add it to its member and its group."""
        self.member.processes[self.worker.address] = self
        self.member.group.limit += self.worker.memory_limit
        self.member.group.threads += self.worker.nthreads
        self.member.settle()
        self.sample()

    def part(self) -> None:
        """Take it out of its member and its group."""
        member, group = self.member, self.member.group
        if self.tasks:
            self._rest()
        self.here = False
        del member.processes[self.worker.address]
        group.limit -= self.worker.memory_limit
        group.threads -= self.worker.nthreads
        group.memory -= self.memory
        group.nbytes -= self.nbytes
        group.spilled -= self.spilled
        member.settle()

    def _wake(self) -> None:
        member = self.member
        member.busy += 1
        if member.busy == 1:
            member.group.busy += 1

    def _rest(self) -> None:
        member = self.member
        member.busy -= 1
        if member.busy == 0:
            member.group.busy -= 1
            member.since = monotonic()


class Workers:
    """The scheduler's workers by group and member.

    A worker says itself whose it is (`perennial.preloads.member`). Of one that does not, the
    name tells it: the longest name of a known group that it begins with, and a hyphen.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.processes: dict[str, Process] = {}
        #: Groups that the scaler has named, and how many processes a member of each has.
        self.known: dict[str, int] = {}
        #: Members that have come (True) and gone: the number of the change, group, name.
        self.changes: deque[tuple[int, str, str, bool]] = deque(maxlen=CHANGES)
        self.change = 0
        self._turn: Iterator[Process] = iter(())

    def add(self, worker: Any) -> Process:
        """Add a worker."""
        group_name, name = self.belongs(worker)
        group = self.groups.setdefault(group_name, Group(group_name))
        if name not in group.members:
            group.members[name] = SeenMember(name, group)
            self._changed(group_name, name, True)
        process = self.processes[worker.address] = Process(worker, group.members[name])
        process.join()
        return process

    def remove(self, address: str) -> None:
        """Remove a worker."""
        process = self.processes.pop(address, None)
        if process is None:
            return
        process.part()
        member = process.member
        if not member.processes:
            group = member.group
            del group.members[member.name]
            group.parked.discard(member)
            self._changed(group.name, member.name, False)
            if not group.members:
                del self.groups[group.name]

    def belongs(self, worker: Any) -> tuple[str, str]:
        """Find out the group and the member of a worker."""
        said = worker.extra.get("perennial")
        if isinstance(said, Mapping) and {"group", "member"} <= set(said):
            return str(said["group"]), str(said["member"])
        name = str(worker.name)
        group = max(
            (each for each in self.known if name.startswith(f"{each}-")), key=len, default=""
        )
        stem, _, process = name.rpartition("-")
        if self.known.get(group, 1) > 1 and process.isdigit():
            return group, stem
        return group, name

    def look(self) -> None:
        """Look at the memory of some workers: of those whose turn it is.

        A hundredth at a time is often enough: n workers report theirs every n / 200 s.
        """
        number = max(50, len(self.processes) // 100)
        seen = 0
        for process in islice(self._turn, number):
            process.sample()
            seen += 1
        if seen < number:
            self._turn = iter(list(self.processes.values()))

    def look_at_all(self) -> None:
        """Look at the memory of all workers."""
        for process in self.processes.values():
            process.sample()

    def names(self, since: int) -> Names:
        """Return the members' names: what has changed since a number, or all of them."""
        oldest = self.change - len(self.changes)
        if oldest <= since <= self.change:
            newer = islice(self.changes, since - oldest, None)
            return {"change": self.change, "changes": [change[1:] for change in newer]}
        every = {group.name: list(group.members) for group in self.groups.values()}
        return {"change": self.change, "all": every}

    def _changed(self, group: str, member: str, here: bool) -> None:
        self.change += 1
        self.changes.append((self.change, group, member, here))
