"""Packs work on to groups: the most constrained first, existing members before new ones.

Work is a fluid here: a number of tasks that take some seconds together, done by slots. A task
needs a slot of a thread and of each resource that it names, so that a member has several
dimensions; a group is full when one of them is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, inf

from perennial.scaler.policy.rules import GUESS, PROBE
from perennial.scaler.policy.views import GroupView, sane
from perennial.scaler.values import Group, Load, Signature, Work

#: Less than this is nothing: what is left over when floats are added and taken away.
LITTLE = 1e-6


@dataclass(slots=True)
class Need:
    """The ready work of one signature."""

    #: What the tasks need.
    signature: Signature
    #: Tasks of known duration.
    known: float = 0.0
    #: Their work.
    seconds: float = 0.0
    #: Tasks of unknown duration.
    unknown: float = 0.0
    #: Seconds that such a one is taken for.
    guess: float = GUESS
    #: Tasks that workers have been given, by group.
    processing: dict[str, float] = field(default_factory=dict)
    #: Slots that work takes which keeps coming.
    steady: float = 0.0

    def add(self, load: Load) -> None:
        """Add tasks of the signature."""
        tasks, unknown = counts(load)
        self.known += tasks - unknown
        self.seconds += sane(load.seconds) if tasks > unknown else 0.0
        self.unknown += unknown

    @property
    def work(self) -> float:
        """Seconds of work, as far as it can be told."""
        return self.seconds + self.unknown * self.guess

    def slots(self, part: float, horizon: float, member: float) -> float:
        """Count the slots that do a part of the work within the horizon."""
        known = min(self.known, self.seconds / horizon)
        probed = max(PROBE * member, self.unknown * max(self.guess, horizon / 2) / horizon)
        return part * known + min(part * self.unknown, probed)

    def slots_left(self, there: float, wait: float, horizon: float, member: float) -> float:
        """Count the slots that do what will be left, and what keeps coming."""
        # As much as runs at a time of what keeps coming is always there, and no backlog.
        usual = self.steady * (self.seconds / self.known if self.known else 0.0)
        backlog = max(0.0, self.work - usual)
        left = backlog - max(0.0, there - self.steady * wait)
        part = max(0.0, left / self.work) if self.work else float(not there)
        return self.steady + self.slots(part, horizon, member)


@dataclass(slots=True)
class Room:
    """A group while work is put on to it."""

    #: Where it stands.
    view: GroupView
    #: Members that may still be asked for.
    left: int
    #: Members that are asked for.
    new: int = 0
    #: Members that would be asked for if there were no bounds.
    beyond: int = 0
    #: Member-seconds before the new ones come that are given away, by dimension.
    used: dict[str, float] = field(default_factory=dict)
    #: Members that are given away then, by dimension.
    held: dict[str, float] = field(default_factory=dict)
    #: Members that pinned work holds, now and then, by dimension.
    bound: Mapping[str, float] = field(default_factory=dict)
    #: Ready tasks that it is the first choice of, and the seconds of their work.
    tasks: float = 0.0
    work: float = 0.0
    #: Whether it was asked for to find out how long tasks take.
    probes: bool = False

    def __post_init__(self) -> None:
        self.held |= self.bound

    def taken(self, wait: float) -> dict[str, float]:
        """Say what is given away of the member-seconds before new members come, by dimension."""
        if not self.bound:
            return self.used
        more = {name: self.used.get(name, 0.0) + n * wait for name, n in self.bound.items()}
        return self.used | more

    @property
    def needed(self) -> int:
        """Members that the work put on to the group needs."""
        return round_up(max(self.held.values(), default=0.0))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group as one signature sees it."""

    #: The group.
    room: Room
    #: Tasks of the signature that a member can run, by dimension.
    slots: Mapping[str, float]
    #: The smallest of them.
    least: float
    #: Whether the signature may ask for members of it.
    opens: bool

    def free(self, members: float, given: Mapping[str, float]) -> float:
        """Count the tasks that fit into members of which something is given away."""
        return max(0.0, min((members - given.get(d, 0.0)) * n for d, n in self.slots.items()))

    def take(self, tasks: float, given: dict[str, float]) -> None:
        """Give room to tasks."""
        for dimension, slots in self.slots.items():
            given[dimension] = given.get(dimension, 0.0) + tasks / slots


def round_up(members: float) -> int:
    """Round up, but for what floats leave over."""
    return ceil(members - LITTLE)


def slots_of(group: Group, signature: Signature) -> dict[str, float]:
    """Count the tasks of a signature that a member can run, by dimension; empty when it cannot."""
    slots = {"": float(group.slots)}
    for name, need in signature.resources:
        if sane(need):
            has = group.resources.get(name, 0)
            if has < need:  # most groups lack what most signatures need
                return {}
            slots[name] = float(group.processes * floor(has / need))
    return slots if min(slots.values()) >= 1 else {}


def needs(work: Iterable[Work]) -> list[Need]:
    """Make the ready work of each signature one need; pinned work is none, see `bound`."""
    found: dict[Signature, Need] = {}
    for item in work:
        if item.signature.pinned:
            continue
        need = found.setdefault(item.signature, Need(item.signature))
        given = [item.processing[group] for group in sorted(item.processing)]
        for load in (item.queued, item.unrunnable, *given):
            need.add(load)
        for group, load in item.processing.items():
            need.processing[group] = need.processing.get(group, 0.0) + sane(load.tasks)
        need.guess = max(need.guess, sane(item.elapsed))
    return [need for need in found.values() if need.known + need.unknown > 0]


def bound(work: Iterable[Work], views: Iterable[GroupView]) -> dict[str, dict[str, float]]:
    """Say how many members of each group pinned work holds, by dimension.

    New members would not run it, but those that run it are needed, and have no room for other work.
    """
    pinned = [item for item in work if item.signature.pinned]
    found: dict[str, dict[str, float]] = {}
    for view in views if pinned else ():
        given = found.setdefault(view.group.name, {})
        busy = min(view.running, view.seen.busy)
        for item in pinned:
            slots = slots_of(view.group, item.signature)
            load = item.processing.get(view.group.name)
            if load and slots:
                need = Need(item.signature, guess=max(GUESS, sane(item.elapsed)))
                need.add(load)
                # They may pile up on few workers, more than these can run at a time.
                least = min(slots.values())
                many = min(need.slots(1, view.soon, least), busy * least)
                for dimension, each in slots.items():
                    given[dimension] = min(busy, given.get(dimension, 0.0) + many / each)
    return found


def counts(load: Load) -> tuple[float, float]:
    """Count the tasks of a load, and those of unknown duration."""
    tasks = sane(load.tasks)
    return tasks, min(tasks, sane(load.unknown))


def candidates(need: Need, rooms: Sequence[Room]) -> list[Candidate]:
    """Find the groups that can run a signature, in the order in which they are filled.

    A higher priority comes first; then a group without scarce resources, that is such that the
    signature does not need; then the cheapest slot; then the quickest start. A group with
    scarce resources is opened only when its priority is above that of all without, or when
    there is none without.
    """
    wanted = {name for name, amount in need.signature.resources if sane(amount)}
    found = []
    for index, room in enumerate(rooms):
        group = room.view.group
        slots = slots_of(group, need.signature)
        if slots:
            least = min(slots.values())
            scarce = any(amount and name not in wanted for name, amount in group.resources.items())
            cost = sane(group.cost) / least
            key = (-group.priority, scarce, cost, room.view.start_up, index)
            found.append((key, scarce, room, slots, least))
    plain = [key[0] for key, scarce, room, *_ in found if not scarce and largest(room.view.group)]
    best = min(plain, default=inf)
    found.sort(key=lambda item: item[0])
    return [
        Candidate(room, slots, least, opens=not scarce or key[0] < best)
        for key, scarce, room, slots, least in found
    ]


def largest(group: Group) -> int:
    """Say how large a group may become: its max, or what a person has set."""
    return max(0, group.max if group.pin is None else group.pin)


def pack(
    found: Sequence[Need],
    views: Sequence[GroupView],
    lefts: Mapping[str, int],
    pinned: Mapping[str, Mapping[str, float]],
) -> list[Room]:
    """Find the members to ask for: for work that will still be there when they have come."""
    rooms = [
        Room(view, lefts.get(name := view.group.name, 0), bound=pinned.get(name, {}))
        for view in views
    ]
    for need, where in _constrained(found, rooms):
        _ask(need, where)
    return rooms


def _constrained(
    found: Sequence[Need], rooms: Sequence[Room]
) -> list[tuple[Need, list[Candidate]]]:
    """Sort work that can be run: fewest groups first, then the largest needs."""
    items = [(need, candidates(need, rooms)) for need in found]
    items = [(need, where) for need, where in items if where]
    items.sort(
        key=lambda item: (
            len(item[1]),
            [-amount for _, amount in item[0].signature.resources],
            item[0].signature,
        )
    )
    return items


def _ask(need: Need, where: Sequence[Candidate]) -> None:
    """Ask for members for one signature."""
    opens = [place for place in where if place.opens]
    first = next((place for place in opens if place.room.left > 0), None)
    wait = first.room.view.start_up if first else 0.0
    ready = [place.free(_seconds(place.room.view, wait), place.room.taken(wait)) for place in where]
    home = first or (opens or where)[0]
    rest = need.slots_left(sum(ready), wait, home.room.view.horizon, home.least)
    part = min(1.0, (need.work + need.steady * wait) / sum(ready)) if any(ready) else 0.0
    for place, seconds in zip(where, ready, strict=True):
        place.take(part * seconds, place.room.used)
    for place in where:
        view = place.room.view
        there = view.running + view.starting + place.room.new
        rest -= _put(place, min(rest, place.free(there, place.room.held)))
    for place in opens:
        if rest <= LITTLE:
            return
        new = min(place.room.left, round_up(rest / place.least))
        place.room.left -= new
        place.room.new += new
        place.room.probes |= bool(new) and need.unknown > need.known
        rest -= _put(place, min(rest, new * place.least))
    if rest > LITTLE and opens:
        home.room.beyond += round_up(rest / home.least)


def _put(place: Candidate, tasks: float) -> float:
    """Put tasks on to a group; say how many."""
    if tasks > 0:
        place.take(tasks, place.room.held)
    return max(0.0, tasks)


def _seconds(view: GroupView, wait: float) -> float:
    """Count the member-seconds that a group has until new members come."""
    return view.running * wait + view.starting * max(0.0, wait - view.arrives)


def needed_members(
    found: Sequence[Need], views: Sequence[GroupView], pinned: Mapping[str, Mapping[str, float]]
) -> list[Room]:
    """Find the members that work needs of those that run and those that are on their way.

    One on its way is needed if there is still something to do for it when it comes.
    """
    rooms = [Room(view, 0, bound=pinned.get(view.group.name, {})) for view in views]
    for need, where in _constrained(found, rooms):
        home = next((place for place in where if place.opens), where[0])
        home.room.tasks += need.known + need.unknown
        home.room.work += need.work
        horizon = home.room.view.soon
        rest = max(need.steady, need.slots(1, horizon, home.least))
        speed = 0.0
        for place in where:
            free = place.free(place.room.view.running, place.room.held)
            speed += free
            rest -= _put(place, min(rest, free))
        for place in where:
            view = place.room.view
            left = 1 - speed * view.arrives / need.work if need.work else 1.0
            later = need.slots(max(0.0, left), horizon, home.least) - speed
            free = place.free(view.running + view.starting, place.room.held)
            rest -= _put(place, min(rest, later, free))
        home.room.beyond += round_up(max(0.0, rest) / home.least)
    return rooms
