"""How large a group wants to be, and what it may become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from perennial.scaler.policy.packing import Room, largest, round_up
from perennial.scaler.policy.rules import FULL
from perennial.scaler.policy.views import GroupView, sane
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


def most(view: GroupView) -> int:
    """Say the largest size that a group may have: its max, and what its platform takes."""
    platform = view.observation.most if view.observation and not view.group.forced else None
    bound = largest(view.group)
    return bound if platform is None else min(bound, max(0, platform))


def least(view: GroupView) -> int:
    """Say the smallest size that a group may have: its min, and what its platform takes."""
    bound = view.group.min if view.group.pin is None else view.group.pin
    platform = view.observation.least if view.observation else 0
    return min(max(0, bound, platform), largest(view.group))


def left(view: GroupView, blocked: bool) -> int:
    """Say how many members may be asked for, but for steps and the budget."""
    if view.group.pin is not None:
        return 0
    free = max(0, most(view) - view.current)  # also of a platform that does not answer: wait for it
    return min(free, len(view.back)) if blocked else free


def filled(view: GroupView) -> int:
    """Say how many members the data of a group needs, each full to the part that it shall be.

    What a process needs for itself comes with each member; data is what can be shared out.
    """
    seen = view.seen
    if seen.members < 1 or not seen.nbytes:
        return 0
    limit = (sane(seen.limit) or view.group.memory * seen.members) / seen.members
    own = max(0.0, seen.memory - max(0, seen.nbytes - seen.spilled)) / seen.members
    return round_up(seen.nbytes / max(1.0, FULL * limit - own, 0.25 * limit))


def growth(
    view: GroupView, room: Room, ready: bool, client: bool, blocked: bool, budget: Budget
) -> Growth:
    """Say what a group grows to; its current size when it does not grow."""
    current = view.current
    weighed = {"current": current, "demand": current + room.new + room.beyond}
    weighed["memory"] = filled(view) if view.seen.busy or ready else 0
    weighed["client"] = int(client)
    weighed["min"] = least(view)
    want = max(weighed.values())
    rule = next(name for name, size in weighed.items() if size == want)
    if view.group.pin is not None:
        want, rule = view.group.pin, "pin"
    if rule == "demand" and room.probes:
        rule = "probe"
    to = max(current, want)
    for name, cap in _caps(view, blocked).items():
        if max(current, cap) < to:
            to, rule = max(current, cap), name
    bought = budget.buy(to - current, sane(view.group.cost))
    if bought < to - current:
        to, rule = current + bought, "budget"
    return Growth(to, want, rule, weighed)


def _caps(view: GroupView, blocked: bool) -> dict[str, int]:
    """Say how large a group may become now, by rule."""
    group, platform = view.group, view.observation
    caps = {"max": largest(group)}
    if platform is not None and platform.most is not None and not group.forced:
        caps["platform"] = platform.most
    if group.pin is None:
        more = max(0, pending(group) - view.starting) + len(view.back)
        caps["step-up"] = max(least(view), view.current + more)
    if platform is not None and platform.step is not None:
        more = max(0, platform.step - view.starting) + len(view.back)
        caps["pace"] = view.current + more
    if blocked:
        caps["blocked"] = view.current + len(view.back)
    return caps


def pending(group: Group) -> int:
    """Say how many members of a group may be on their way at a time."""
    return max(1, ceil(sane(group.step_up) * max(1, group.max)))


def budget_of(rules: Rules, views: Mapping[str, GroupView]) -> Budget:
    """Add up what the members cost that are there."""
    spent = 0.0
    for group in rules.groups:
        view = views[group.name]
        spent += (view.current + len(view.standing.draining)) * sane(group.cost)
    return Budget(rules.budget, spent)
