"""Where a group stands: the platform's view, the scheduler's, and what is remembered, in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isfinite

from perennial.observation import Member, Observation
from perennial.scaler.policy.rules import (
    HORIZON,
    HORIZON_PART,
    LEAST,
    LOST,
    QUANTILE,
    RETURN,
    START_UPS,
    UNMEASURED,
)
from perennial.scaler.values import (
    Demand,
    Group,
    GroupHistory,
    GroupSeen,
    Standing,
)


@dataclass(frozen=True, slots=True)
class GroupView:
    """What is known of a group when its size is decided."""

    #: Its rules.
    group: Group
    #: The platform's view.
    standing: Standing
    #: The scheduler's view.
    seen: GroupSeen
    #: What is remembered, with no time that is still to come.
    past: GroupHistory
    #: Members that the scheduler knows.
    registered: frozenset[str] = frozenset()
    #: Members that exist, are asked for, and have not been told to leave.
    current: int = 0
    #: Members that the scheduler can use.
    running: int = 0
    #: Members on their way.
    starting: int = 0
    #: Seconds until these will have come, in the mean.
    arrives: float = 0.0
    #: Those that can be given up, because they have not started.
    spare: int = 0
    #: Members that should have registered long ago.
    lost: tuple[str, ...] = ()
    #: Members that run and have not registered, for whatever reason.
    absent: int = 0
    #: Members whose drain can be undone.
    back: tuple[str, ...] = ()
    #: Members that were registered before: how long they take to come back teaches nothing.
    back_before: tuple[str, ...] = ()
    #: Since when each member that has not registered is waited for.
    asked: Mapping[str, float] = field(default_factory=dict)
    #: The latest start-up times.
    start_ups: tuple[float, ...] = ()
    #: Seconds until a member that is asked for now will have come.
    start_up: float = 0.0

    @property
    def horizon(self) -> float:
        """Seconds in which ready work shall be done."""
        if self.group.horizon is not None:
            return max(sane(self.group.horizon), 1e-3)
        return max(HORIZON, HORIZON_PART * self.start_up)

    @property
    def soon(self) -> float:
        """Seconds in which ready work shall be done by members that are there already."""
        return min(HORIZON, self.horizon)

    @property
    def least(self) -> float:
        """How long a member that is not needed is kept in any case."""
        return min(LEAST, max(1.0, self.start_up / 2))

    @property
    def longest(self) -> float:
        """How long a member that is not needed is kept at most, whatever pauses teach."""
        return max(self.start_up, 2 * LEAST)

    @property
    def price(self) -> float:
        """What the return of a member costs, in seconds of a member."""
        return RETURN * self.start_up + self.least

    def blocked(self, now: float) -> bool:
        """Whether nothing may be asked of the platform."""
        return self.standing.blocked != 0 and self.standing.blocked > now

    @property
    def observation(self) -> Observation | None:
        """The platform's view; None when it did not answer."""
        return self.standing.observation


def sane(number: float) -> float:
    """Make a number that came from elsewhere one to count with: finite, not negative."""
    return number if number > 0 and isfinite(number) else 0.0


def group_view(
    group: Group,
    standing: Standing | None,
    demand: Demand | None,
    past: GroupHistory,
    now: float,
    grew: float | None = None,
) -> GroupView:
    """Bring the views of a group together."""
    standing = standing or Standing(None)
    seen = (demand.groups.get(group.name) if demand else None) or GroupSeen()
    registered = frozenset(seen.names)
    gone = sum(name in registered for name in standing.draining)
    view = GroupView(
        group=group,
        standing=standing,
        seen=seen,
        past=past,
        registered=registered,
        current=len(registered) - gone,
        running=max(0, min(seen.members, len(registered) - gone)),
        asked=past.asked,
        start_ups=past.start_ups,
        start_up=learned(past.start_ups, group),
    )
    observation = standing.observation
    if observation is None:
        return view
    alive = [member for member in observation.members if member.state != "leaving"]
    draining, staying = standing.draining, alive
    if draining:
        staying = [member for member in alive if member.worker not in draining]
    unmet = max(0, observation.desired - len(alive))
    view = replace(view, current=len(staying) + unmet)
    if demand is None:
        return view
    absent = [member for member in staying if member.worker not in registered]
    return _waiting(view, absent, unmet, now, now if grew is None else grew)


def _waiting(
    view: GroupView, absent: Sequence[Member], unmet: int, now: float, first: float
) -> GroupView:
    """Add who is waited for, since when, and what was learned from those who have come."""
    past, draining, registered = view.past, view.standing.draining, view.registered
    asked = {member.worker: min(now, past.asked.get(member.worker, first)) for member in absent}
    fresh = asked.keys() - past.asked.keys()
    again = fresh.intersection(past.names) if fresh else fresh
    # A clock that jumps, or a machine that slept, must not teach that starts take hours.
    longest = _lost_after(past.start_ups, view.start_up)
    came = [
        min(now - since, longest)
        for name, since in past.asked.items()
        if name in registered and name not in past.back
    ]
    start_ups = (*past.start_ups, *came)[-START_UPS:]
    start_up = learned(start_ups, view.group)
    late = now - _lost_after(start_ups, start_up)
    before = frozenset(past.late)
    lost = {name: None for name, since in asked.items() if since < late or name in before}
    waited = [max(0.0, since + start_up - now) for name, since in asked.items() if name not in lost]
    waited += [start_up] * unmet
    # Whoever is waited for no longer has taken that long at least: else, where starts have become
    # slow, each would be given up before it comes, and nothing would ever be learned.
    taught = [min(now - asked[name], longest) for name in lost if name not in before]
    return replace(
        view,
        starting=len(waited),
        arrives=sum(waited) / len(waited) if waited else 0.0,
        spare=unmet + sum(member.state == "starting" for member in absent),
        lost=tuple(lost),
        absent=sum(member.state == "running" for member in absent),
        back=tuple(sorted(name for name, done in draining.items() if done and name in registered)),
        back_before=(*past.back, *again),
        asked=asked,
        start_ups=(*start_ups, *taught)[-START_UPS:],
        start_up=start_up,
    )


def _lost_after(start_ups: Sequence[float], start_up: float) -> float:
    """Say how long a member that has not registered is waited for."""
    usual = LOST * start_up + 60
    return usual if start_ups else max(usual, UNMEASURED)


def learned(start_ups: Iterable[float], group: Group) -> float:
    """Say how long a member of a group takes to start: a high quantile of the latest times."""
    times = sorted(map(sane, start_ups))
    return times[ceil(QUANTILE * len(times)) - 1] if times else sane(group.start_up)


def remembered(past: GroupHistory | None, now: float) -> GroupHistory:
    """Forget all times that are still to come: the clock was set back, or is another one."""
    past = past or GroupHistory()
    grown, shrunk = past.grown, past.shrunk
    return GroupHistory(
        asked={name: min(since, now) for name, since in past.asked.items()},
        start_ups=past.start_ups,
        wanted=tuple((min(time, now), size) for time, size in past.wanted),
        grown=None if grown is None else min(grown, now),
        shrunk=None if shrunk is None else min(shrunk, now),
        gaps=past.gaps,
        back=past.back,
        names=past.names,
        late=past.late,
    )
