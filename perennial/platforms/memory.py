"""A fleet in memory: for tests, for simulations, and to try the scaler on nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from perennial.errors import FleetError, FleetMissing, NoCapacity
from perennial.fleet import Handle
from perennial.observation import Member, Observation


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take on a platform in memory, in seconds of its clock."""

    #: From asking for a member, by its name, until it runs.
    start_up: Callable[[str], float] = lambda _name: 0.0
    #: From telling a member to leave until it is gone.
    stop: float = 0.0
    #: Says what time it is.
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member: from when on it runs, and until when it is there once it has been told to go."""

    index: int
    runs: float
    gone: float | None = None


class MemoryHandle(Handle):
    """A fleet in memory by its group, its first size, its bounds and its platform's room."""

    group: str
    size: int = 0
    least: int = 0
    most: int | None = None
    room: int | None = None


class MemoryFleet:
    """A fleet whose platform is this object."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[MemoryHandle]] = MemoryHandle

    def __init__(
        self,
        group: str,
        size: int = 0,
        least: int = 0,
        most: int | None = None,
        room: int | None = None,
        timing: Timing = Timing(),
    ) -> None:
        self.group = group
        self.least = least
        self.most = most
        self.room = room
        self.timing = timing
        #: Raised by the next calls, one after another; each by its method.
        self.faults: dict[str, list[FleetError]] = {"observe": [], "resize": []}
        #: Whether the platform knows the fleet.
        self.known = True
        #: Every change: time, size asked for, names that were told to leave.
        self.asked: list[tuple[float, int, tuple[str, ...]]] = []
        start = timing.clock()
        self._entries = {index: _Entry(index, start) for index in range(size)}

    def observe(self) -> Observation:
        """Look; changes nothing."""
        self._fail("observe")
        now = self.timing.clock()
        entries = self._there(now)
        members = tuple(self._member(entry, now) for entry in entries.values())
        return Observation(
            desired=sum(entry.gone is None for entry in entries.values()),
            members=members,
            settled=all(member.state == "running" for member in members),
            least=self.least,
            most=self.most,
        )

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members, see `perennial.fleet.Fleet`."""
        self._fail("resize")
        now = self.timing.clock()
        self._entries = self._there(now)
        named = {self._name(index) for index in self._entries} & {one.id for one in leaving}
        self.asked.append((now, to, tuple(sorted(named))))
        staying = [entry for entry in self._entries.values() if entry.gone is None]
        gone = self._who_leaves(staying, named)
        staying = [entry for entry in staying if entry.index not in gone]
        # What has not started is given up, the newest first; what runs is never touched.
        unstarted = [entry.index for entry in staying if entry.runs > now]
        gone |= set(unstarted[::-1][: max(0, len(staying) - to)])
        for index in gone:
            self._entries[index] = replace(self._entries[index], gone=now + self.timing.stop)
        size = sum(entry.gone is None for entry in self._entries.values())
        return size if size >= to else self._grow(size, to, now)

    # Inside

    def _grow(self, size: int, to: int, now: float) -> int:
        room = to - size if self.room is None else self.room - len(self._entries)
        for _ in range(min(to - size, room)):
            index = next(n for n in range(len(self._entries) + 1) if n not in self._entries)
            runs = now + self.timing.start_up(self._name(index))
            self._entries[index] = _Entry(index, runs)
            size += 1
        if room <= 0:
            raise NoCapacity(f"{self.group}: no room for more than {self.room} members")
        return size

    def _who_leaves(self, staying: Sequence[_Entry], named: set[str]) -> set[int]:
        """Pick who leaves of those who have not been told yet; by their indices."""
        return {entry.index for entry in staying if self._name(entry.index) in named}

    def _there(self, now: float) -> dict[int, _Entry]:
        """Members that exist, in the order in which they were asked for."""
        return {
            index: entry
            for index, entry in self._entries.items()
            if entry.gone is None or entry.gone > now
        }

    def _member(self, entry: _Entry, now: float) -> Member:
        name = self._name(entry.index)
        if entry.gone is not None:
            return Member(name, name, "leaving")
        return Member(name, name, "running" if entry.runs <= now else "starting")

    def _name(self, index: int) -> str:
        return f"{self.group}-{index}"

    def _fail(self, method: str) -> None:
        if not self.known:
            raise FleetMissing(f"{self.group}: no such fleet")
        if self.faults[method]:
            raise self.faults[method].pop(0)


class PickingFleet(MemoryFleet):
    """A fleet whose platform picks who leaves: the oldest, whoever was named."""

    chooses: ClassVar[bool] = False

    def _who_leaves(self, staying: Sequence[_Entry], named: set[str]) -> set[int]:
        return {entry.index for entry in staying[: len(named)]}
