"""Which members leave: not needed for long enough, in small steps, if the others take the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, inf, sqrt

from perennial.scaler.policy.rules import ENOUGH, FULL, PART
from perennial.scaler.policy.views import GroupView, sane
from perennial.scaler.values import PARKED, GroupSeen, MemberSeen

#: What was wanted lately: times rise, sizes fall; the last is what is wanted now.
Wanted = tuple[tuple[float, int], ...]
#: Pauses, and how many members had them.
Gaps = tuple[tuple[float, int], ...]


@dataclass(slots=True)
class FreeMemory:
    """Memory that is left for the data of those who leave, by group."""

    #: Bytes up to the part of the memory that shall be used; shrinks.
    left: dict[str, float] = field(default_factory=dict)
    #: Members that have it; shrinks.
    members: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, groups: Mapping[str, GroupSeen], views: Iterable[GroupView]) -> FreeMemory:
        """Look what is left beside those who are leaving already."""
        left = {name: FULL * sane(seen.limit) - sane(seen.memory) for name, seen in groups.items()}
        memory = cls(left, {name: seen.members for name, seen in groups.items()})
        for view in views:
            detail = view.seen.detail or {}
            for name in view.standing.draining:
                if name in detail and detail[name].status != PARKED:
                    memory.vacate(view.group.name, detail[name], limit_of(view))
        return memory

    def leave(self, group: str, member: MemberSeen, limit: float) -> bool:
        """Take a member away, and put its data into what the others have left."""
        data = sane(member.nbytes)
        own, _ = self._without(group, member, limit)
        others = sum(left for name, left in self.left.items() if name != group and left > 0)
        if data and data > max(0.0, own) + others:
            return False
        self.vacate(group, member, limit)
        return True

    def vacate(self, group: str, member: MemberSeen, limit: float) -> None:
        """Take a member away and put its data into what the others have left, or beyond it."""
        data = sane(member.nbytes)
        own, self.members[group] = self._without(group, member, limit)
        here = min(data, max(0.0, own))
        self.left[group], data = own - here, data - here
        for name, left in sorted(self.left.items()):
            if name != group and left > 0:
                self.left[name] = left - min(data, left)
                data -= min(data, left)
        self.left[group] -= data

    def _without(self, group: str, member: MemberSeen, limit: float) -> tuple[float, int]:
        """Say what a group has left when a member takes its own memory along, and who stays."""
        stay = self.members.get(group, 0) - (member.status == "running")
        own = self.left.get(group, 0.0) - max(0.0, FULL * limit - sane(member.memory))
        return (own if stay > 0 else 0.0), stay


@dataclass(frozen=True, slots=True)
class Leaving:
    """Who leaves."""

    #: Members, in this order.
    names: tuple[str, ...] = ()
    #: The rule that keeps others who might have left; empty when there are none.
    held: str = ""
    #: How many members each rule keeps that is about a single member.
    holding: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdleTolerance:
    """How long members are kept that are not needed.

    The first members of a group are kept longest: when work comes back, one member that is there
    saves the most waiting, the last one hardly any.
    """

    #: Seconds for which all are kept.
    least: float
    #: Seconds for which the first one is kept after that.
    more: float = 0.0

    @classmethod
    def of(cls, view: GroupView) -> IdleTolerance:
        """Choose it: what a person wrote, else learned from the group's pauses, else a guess."""
        if view.group.idle is not None:
            return cls(sane(view.group.idle))
        first = cls(view.least, PART * view.start_up)
        if all(gap <= first.least for gap, _ in view.past.gaps):
            return first
        learned = worthwhile(view.past.gaps, view.price, view.least, view.longest)
        return first if learned is None else cls(learned)

    def wanted_lately(self, wanted: Wanted, now: float) -> int:
        """Say how many members are kept because they were wanted lately."""
        peak = max((size for _, size in wanted), default=0)
        return max((self._of(size, now - time, peak) for time, size in wanted), default=0)

    def _of(self, size: int, age: float, peak: int) -> int:
        """Say how many are kept of a size that was wanted some time ago."""
        if age < self.least:
            return size
        part = (age - self.least) / self.more if self.more > 0 else 1.0
        return 0 if part >= 1 else min(size, ceil(peak * (1 - sqrt(part))))

    def until(self, wanted: Wanted, now: float, current: int) -> float | None:
        """Say in how many seconds the group may shrink by time alone; None when it may not."""
        binding = [time for time, size in wanted if size >= current]
        if not binding or binding[-1] >= now:
            return None
        peak = max(size for _, size in wanted)
        full = self.least + self.more * (1 - min(1.0, max(0, current - 1) / peak)) ** 2
        return max(0.0, full - (now - binding[-1]))


def noted(wanted: Wanted, now: float, size: int, oldest: float) -> tuple[Wanted, Gaps]:
    """Add what is wanted now; forget what is smaller and earlier, and what is too old."""
    kept, gaps = [(now, size)], []
    lower = wanted[-1][1] if wanted else 0
    for time, known in reversed(wanted[:-1]):
        ended = time < oldest
        upper = known if ended else min(known, size)
        if upper > lower:
            gaps.append((now - time, upper - lower))
        lower = max(lower, known)
        if known > size and not ended:
            kept.append((time, known))
    if wanted and wanted[-1][1] > size and wanted[-1][0] >= oldest:
        kept.insert(1, wanted[-1])
    many = sum(count for _, count in gaps)
    mean = sum(gap * count for gap, count in gaps) / many if many else 0.0
    return tuple(reversed(kept)), (((mean, many),) if many else ())


@lru_cache(maxsize=1024)  # the same pauses are asked about again and again
def worthwhile(gaps: Gaps, price: float, least: float, most: float) -> float | None:
    """Choose how long to keep members, so that the known pauses would have cost the least.

    A pause that is waited for costs its time; one that is not costs the time until the member
    leaves, and the price of its return.
    """
    if len(gaps) < ENOUGH:
        return None

    def cost(patience: float) -> float:
        return sum(many * (gap if gap <= patience else patience + price) for gap, many in gaps)

    choices = {least, *(gap for gap, _ in gaps if least < gap <= most)}
    best = min(sorted(choices), key=cost)
    return best if best == least else min(most, 1.25 * best + least)


def leaving(view: GroupView, many: int, goal: int, memory: FreeMemory, forced: bool) -> Leaving:
    """Choose who leaves."""
    if many <= 0:
        return Leaving()
    # Of a group that has no worker at the scheduler nothing is left to be known.
    detail = view.seen.detail if view.registered else {}
    if detail is None:
        return Leaving(held="detail")
    staying = _staying(view)
    reasons = {name: _holding(detail.get(name), forced) for name in staying}
    holding = {
        rule: found for rule in HELD if (found := sum(each == rule for each in reasons.values()))
    }
    step = many if forced else _step(view)
    live = sum(_live(detail.get(name)) for name in staying)
    names: list[str] = []
    held = max(holding, key=lambda rule: holding[rule], default="starting")
    for member in _candidates(view, staying, detail, reasons):
        if len(names) == many:
            break
        if len(names) >= step:
            held = "step-down"
            break
        why = ""
        if _live(member) and live == 1 and many + goal - len(names) > 1:
            why = "last"
        elif not memory.leave(view.group.name, member, limit_of(view) * bool(member.processes)):
            why = "data"
        if why:
            held = why
            if not view.standing.chooses:
                break
            continue
        live -= _live(member)
        names.append(member.worker)
    return Leaving(tuple(names), held if len(names) < many else "", holding)


def limit_of(view: GroupView) -> float:
    """Say how much memory a member of a group may use."""
    return sane(view.seen.limit) / max(1, view.seen.members) or view.group.memory


def _step(view: GroupView) -> int:
    """Say how many more may leave at a time: a part of what the group was lately.

    Who is past the deadline of its drain may stay for hours, and keeps nobody else.
    """
    draining = max(0, len(view.standing.draining) - view.standing.late)
    peak = max((size for _, size in view.past.wanted), default=0)
    largest = max(peak, view.current + draining)
    return max(1, ceil(sane(view.group.step_down) * largest)) - draining


def _staying(view: GroupView) -> list[str]:
    """List the members that run and have not been told to leave."""
    members = view.observation.members if view.observation else ()
    return [
        member.worker
        for member in members
        if member.state == "running" and member.worker not in view.standing.draining
    ]


def _candidates(
    view: GroupView,
    staying: Iterable[str],
    detail: Mapping[str, MemberSeen],
    reasons: Mapping[str, str],
) -> Iterable[MemberSeen]:
    """List those who may leave, the best choice first: those first who are not registered.

    These do no work and hold nothing that the scheduler knows of, whatever became of them.
    """
    free: list[tuple[tuple[float, ...], MemberSeen]] = []
    for place, name in enumerate(staying):
        if not reasons[name]:
            member = detail.get(name) or MemberSeen(name, status="absent", processes=0)
            absent = (-1.0, float(name not in view.lost), float(-place))
            free.append((_preference(member, place) if member.processes else absent, member))
        elif not view.standing.chooses:
            break  # the platform would take this one first
    if not view.standing.chooses:
        return [member for _, member in free]
    return [member for _, member in sorted(free, key=lambda item: item[0])]


#: Rules that keep a single member, the one that says most first.
HELD = ("busy", "actors", "kept", "paused")


def _holding(member: MemberSeen | None, forced: bool) -> str:
    """Name the rule for which a member may not leave; empty when it may."""
    if member is None:
        return ""
    if member.actors:
        return "actors"
    if member.needed:
        return "kept"
    if member.processing and not forced:
        return "busy"
    able = ("running", "paused") if forced else ("running",)
    return "" if member.status in able and member.processes > 0 else "paused"


def _live(member: MemberSeen | None) -> bool:
    """Whether a member has registered and begins tasks."""
    return member is not None and member.processes > 0 and member.status == "running"


def _preference(member: MemberSeen, place: int) -> tuple[float, ...]:
    """Sort idle ones first, then by data that only they hold, all data, and the longest idle."""
    idle = member.idle if 0 <= member.idle < inf else 0.0
    return (member.processing, member.unique > 0, sane(member.nbytes), -idle, -place)
