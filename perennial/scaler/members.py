"""All that the scaler knows of each member, in one place: its life, what is begun with it, and why.

The loop, the drains and the log of intents look at these values and change them by events alone,
which `perennial.scaler.life` allows or not. No I/O: `perennial.scaler.intents` has the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from perennial.observation import Member, Observation
from perennial.scaler import timing
from perennial.scaler.boot import uptime
from perennial.scaler.drain_state import Drain
from perennial.scaler.life import SURPRISES, TRANSITIONS, Event, State
from perennial.scaler.workers import Who

#: What can be wanted of a member: that it is drained, that it is brought back.
Doing = Literal["drain", "remove", "return"]

#: Where a scaler finds a member with which one before it had begun something.
RESTORED: Mapping[Doing, State] = {
    "drain": State.PARKING,
    "remove": State.PARKING,  # nobody knows whether its platform was told, and what has come since
    "return": State.RETURNING,
}


_DRAINING = frozenset({State.PARKING, State.PARKED})
#: Where the scaler is at work with a member.
UNDER_WAY = _DRAINING | {State.RETURNING}
_MARKED = UNDER_WAY | {State.LEAVING}


@dataclass(frozen=True, slots=True)
class Intent:
    """What was begun with a member, as it stands on the disk."""

    #: Names.
    group: str
    member: str
    #: What is wanted: that it is drained; that the platform removes it, for it is drained; that its
    #: drain is undone.
    doing: Doing
    #: When that was begun, in seconds since the epoch; of a removal, when its drain was.
    since: float
    #: The decision's reason.
    why: str = ""
    #: The same instant as ``since`` by a clock that nobody can set: `perennial.scaler.boot.uptime`
    #: of this boot. What was begun in another boot begins anew.
    begun: float = field(default_factory=uptime, compare=False)

    @property
    def who(self) -> Who:
        """Group and member."""
        return self.group, self.member


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a member could not be drained, and until when it is left alone."""

    why: str
    #: By the scaler's clock.
    until: float
    #: How many pauses it has had before.
    before: int = 0


@dataclass(slots=True)
class Life:
    """What is known of one member."""

    state: State
    #: What the scaler has begun with it; on the disk before it is done.
    intent: Intent | None = None
    #: How far its drain is, of one that is parking or parked; None where nobody works on it.
    drain: Drain | None = None
    #: Since when it has been seen running while it returns.
    running: float | None = None
    #: Addresses of its nannies that were told not to wait.
    hasty: frozenset[str] = frozenset()
    #: Whether it is left alone for a while.
    pause: Pause | None = None
    #: Whether this scaler has seen it on its platform.
    seen: bool = False


class MemberTracker:
    """The lives of all members, by group and name."""

    def __init__(self) -> None:
        self.lives: dict[str, dict[str, Life]] = {}
        #: Those of them of whom there is more to know than what both truths say.
        self.marked: dict[Who, Life] = {}

    def of(self, who: Who) -> Life:
        """Return the life of a member; one that was never seen is taken to run."""
        group, name = who
        return self.lives.setdefault(group, {}).setdefault(name, Life(State.RUNNING))

    def state(self, who: Who) -> State:
        """Say where a member is; one that is not known is gone."""
        life = self.lives.get(who[0], {}).get(who[1])
        return State.GONE if life is None else life.state

    def may(self, who: Who, event: Event) -> bool:
        """Say whether the scaler may have this happen to a member."""
        return event in TRANSITIONS[self.state(who)]

    def take(self, who: Who, event: Event) -> None:
        """Take a member to the state that follows; refuse what the table does not have."""
        after = TRANSITIONS[self.state(who)].get(event)
        if after is None:
            raise ValueError(f"{who[1]} is {self.state(who)}: {str(event)!r} cannot follow")
        self._move(who, self.of(who), after)

    def observe(
        self, group: str, observation: Observation, registered: Collection[str]
    ) -> dict[str, str]:
        """Take note of what platform and scheduler say; describe what no scaler has caused."""
        lives = self.lives.setdefault(group, {})
        surprises: dict[str, str] = {}
        for member in observation.members:
            name, seen = member.worker, member.state
            life = lives.get(name)
            if life is None:
                life = lives[name] = Life(State.GONE)
            elif life.state is State.RUNNING and name in registered and seen == "running":
                continue  # the usual case
            if said := self._happen((group, name), life, _seen(member, registered)):
                surprises[name] = said
        here = {member.worker for member in observation.members}
        if len(lives) > len(here):
            for name in [each for each in lives if each not in here]:
                if lives[name].state is State.GONE:
                    del lives[name]
                    self.marked.pop((group, name), None)
                elif said := self._happen((group, name), lives[name], Event.VANISH):
                    surprises[name] = said
        return surprises

    def _happen(self, who: Who, life: Life, event: Event) -> str:
        """Take a member to where it was seen; say so where no scaler has caused it."""
        before, seen, life.seen = life.state, life.seen, True
        if before is State.LEAVING and life.intent and event not in (Event.LEAVE, Event.VANISH):
            event = Event.UNDO if life.intent.doing == "return" else Event.STAY
        if (after := TRANSITIONS[before].get(event)) is not None:
            self._move(who, life, after)
        elif (after := SURPRISES[before].get(event)) is not None:
            self._move(who, life, after)
            return f"{before} → {after}" if seen else ""
        return ""

    def _move(self, who: Who, life: Life, state: State) -> None:
        life.state = state
        if state not in _DRAINING:
            life.drain = None
        if state is not State.RETURNING:
            life.running = None
        if state in (State.LEAVING, State.GONE):
            life.hasty = frozenset()
        self._mark(who, life)

    def _mark(self, who: Who, life: Life) -> None:
        if life.state in _MARKED or life.intent is not None or life.pause is not None:
            self.marked[who] = life
        else:
            self.marked.pop(who, None)

    # What is begun

    def restore(self, intent: Intent) -> None:
        """Find a member with which a scaler before this one has begun something."""
        life = self.of(intent.who)
        life.intent = intent
        self._move(intent.who, life, RESTORED[intent.doing])

    def intend(self, intent: Intent) -> None:
        """Note what is begun with a member."""
        life = self.of(intent.who)
        life.intent = intent
        self._mark(intent.who, life)

    def strike(self, who: Who) -> bool:
        """Strike off what was begun with a member; say whether there was something."""
        life = self.marked.get(who)
        if life is None or life.intent is None:
            return False
        life.intent = None
        self._mark(who, life)
        return True

    def intents(self) -> dict[Who, Intent]:
        """List what is begun and has not ended."""
        return {who: life.intent for who, life in self.marked.items() if life.intent is not None}

    # Drains

    def drain(self, drain: Drain) -> None:
        """Begin to drain a member; a drain that has begun goes on."""
        life = self.of(drain.who)
        if life.state not in _DRAINING:
            self.take(drain.who, Event.DRAIN)
        life.drain = life.drain or drain

    def drains(self) -> dict[Who, Drain]:
        """List the drains that go on, and those that are complete."""
        return {who: each.drain for who, each in self.marked.items() if each.drain is not None}

    def going(self, drain: Drain) -> bool:
        """Say whether a drain has not been undone meanwhile."""
        life = self.marked.get(drain.who)
        return life is not None and life.drain is drain

    def drained(self, drain: Drain) -> bool:
        """Say whether a drain is complete."""
        return self.going(drain) and self.state(drain.who) is State.PARKED

    def empty(self, drain: Drain, empty: bool) -> None:
        """Note whether the member of a drain has nothing left."""
        event = Event.EMPTY if empty else Event.REFILL
        if self.going(drain) and self.may(drain.who, event):
            self.take(drain.who, event)

    def returning(self) -> dict[Who, Life]:
        """List the members that are on their way back."""
        return {who: e for who, e in self.marked.items() if e.state is State.RETURNING}

    # Pauses

    def leave_alone(self, who: Who, why: str, now: float) -> float:
        """Leave a member alone that could not be drained; say for how many seconds."""
        life = self.of(who)
        before = 0 if life.pause is None else life.pause.before + 1
        seconds = min(timing.DRAIN_AGAIN * 2.0 ** min(before, 10), timing.DRAIN_AGAIN_MOST)
        life.pause = Pause(why, now + seconds, before)
        self._mark(who, life)
        return seconds

    def alone(self, group: str, now: float) -> dict[str, Pause]:
        """List the members of a group that are left alone now."""
        return {
            name: life.pause
            for (where, name), life in self.marked.items()
            if where == group and life.pause is not None and life.pause.until > now
        }

    def in_group(self, group: str) -> Iterator[tuple[str, Life]]:
        """List the members of a group of whom there is more to know."""
        return ((name, each) for (where, name), each in [*self.marked.items()] if where == group)


def removable(observation: Observation, ready: Collection[str], chooses: bool) -> list[Member]:
    """List those who can be removed now."""
    here = [member for member in observation.members if member.state != "leaving"]
    if chooses:
        return [member for member in here if member.worker in ready]
    return list(takewhile(lambda member: member.worker in ready, here))


def _seen(member: Member, registered: Collection[str]) -> Event:
    """Say what platform and scheduler see of a member."""
    if member.state == "leaving":
        return Event.LEAVE
    if member.worker in registered:
        return Event.REGISTER
    return Event.START if member.state == "running" else Event.ASK
