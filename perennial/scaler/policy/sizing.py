"""How large a group wants to be, and what it may become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from perennial.scaler.policy.packing import Room, largest, whole
from perennial.scaler.policy.rules import FULL
from perennial.scaler.policy.seats import Seat, sane
from perennial.scaler.values import Group, Rules


@dataclass(slots=True)
class Budget:
    """What all members together may still cost."""

    #: Most for an hour; None for no limit.
    limit: float | None
    #: What those cost that are there.
    spent: float = 0.0

    def buy(self, many: int, cost: float) -> int:
        """Take members as far as the budget reaches; say how many."""
        if self.limit is not None and cost > 0:
            left = max(0.0, self.limit - self.spent)
            if many * cost > left * (1 + 1e-9):
                many = max(0, min(many, int(left / cost + 1e-9)))
        self.spent += many * cost
        return many


@dataclass(frozen=True, slots=True)
class Growth:
    """What a group grows to."""

    #: Size.
    to: int
    #: Size that it would have without bounds.
    want: int
    #: The rule that was binding.
    rule: str
    #: The size that each rule would have chosen.
    weighed: Mapping[str, int] = field(default_factory=dict)


def most(seat: Seat) -> int:
    """Say the largest size that a group may have: its max, and what its platform takes."""
    platform = seat.observation.most if seat.observation and not seat.group.forced else None
    bound = largest(seat.group)
    return bound if platform is None else min(bound, max(0, platform))


def least(seat: Seat) -> int:
    """Say the smallest size that a group may have: its min, and what its platform takes."""
    bound = seat.group.min if seat.group.pin is None else seat.group.pin
    platform = seat.observation.least if seat.observation else 0
    return min(max(0, bound, platform), largest(seat.group))


def left(seat: Seat, blocked: bool) -> int:
    """Say how many members may be asked for, but for steps and the budget."""
    if seat.group.pin is not None:
        return 0
    free = max(0, most(seat) - seat.current)  # also of a platform that does not answer: wait for it
    return min(free, len(seat.back)) if blocked else free


def filled(seat: Seat) -> int:
    """Say how many members the data of a group needs, each full to the part that it shall be.

    What a process needs for itself comes with each member; data is what can be shared out.
    """
    seen = seat.seen
    if seen.members < 1 or not seen.nbytes:
        return 0
    limit = (sane(seen.limit) or seat.group.memory * seen.members) / seen.members
    own = max(0.0, seen.memory - max(0, seen.nbytes - seen.spilled)) / seen.members
    return whole(seen.nbytes / max(1.0, FULL * limit - own, 0.25 * limit))


def growth(
    seat: Seat, room: Room, ready: bool, client: bool, blocked: bool, budget: Budget
) -> Growth:
    """Say what a group grows to; its current size when it does not grow."""
    current = seat.current
    weighed = {"current": current, "demand": current + room.new + room.beyond}
    weighed["memory"] = filled(seat) if seat.seen.busy or ready else 0
    weighed["client"] = int(client)
    weighed["min"] = least(seat)
    want = max(weighed.values())
    rule = next(name for name, size in weighed.items() if size == want)
    if seat.group.pin is not None:
        want, rule = seat.group.pin, "pin"
    if rule == "demand" and room.probes:
        rule = "probe"
    to = max(current, want)
    for name, cap in _caps(seat, blocked).items():
        if max(current, cap) < to:
            to, rule = max(current, cap), name
    bought = budget.buy(to - current, sane(seat.group.cost))
    if bought < to - current:
        to, rule = current + bought, "budget"
    return Growth(to, want, rule, weighed)


def _caps(seat: Seat, blocked: bool) -> dict[str, int]:
    """Say how large a group may become now, by rule."""
    group, platform = seat.group, seat.observation
    caps = {"max": largest(group)}
    if platform is not None and platform.most is not None and not group.forced:
        caps["platform"] = platform.most
    if group.pin is None:
        more = max(0, pending(group) - seat.starting) + len(seat.back)
        caps["step-up"] = max(least(seat), seat.current + more)
    if platform is not None and platform.step is not None:
        more = max(0, platform.step - seat.starting) + len(seat.back)
        caps["pace"] = seat.current + more
    if blocked:
        caps["blocked"] = seat.current + len(seat.back)
    return caps


def pending(group: Group) -> int:
    """Say how many members of a group may be on their way at a time."""
    return max(1, ceil(sane(group.step_up) * max(1, group.max)))


def budget_of(rules: Rules, seats: Mapping[str, Seat]) -> Budget:
    """Add up what the members cost that are there."""
    spent = 0.0
    for group in rules.groups:
        seat = seats[group.name]
        spent += (seat.current + len(seat.standing.draining)) * sane(group.cost)
    return Budget(rules.budget, spent)
