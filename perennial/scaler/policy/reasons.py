"""A decision in a sentence, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping

from perennial.scaler.policy.leaving import HELD
from perennial.scaler.policy.rules import FULL
from perennial.scaler.policy.sizing import pending
from perennial.scaler.policy.views import GroupView
from perennial.scaler.values import Decision, Group


def members(number: int) -> str:
    """Count members."""
    return f"{number} member{'s' * (number != 1)}"


def sentence(decision: Decision, view: GroupView) -> str:
    """Say what was decided and why."""
    numbers, group, platform = decision.numbers, view.group, view.observation
    stay = f"stays at {members(decision.to)}"
    change = f"{decision.current} → {members(decision.to)}"
    kept = change if decision.to != decision.current else stay
    start = f"a new member takes {lasting(view.start_up)}"
    wants = _wants(numbers, view)
    coming = f", {view.starting} on their way" if view.starting else ""
    needs = f"{int(numbers.get('need', 0))} needed"
    absent = f"{_have(view.absent)}" if view.absent else "members of other groups have"
    limits = f"its max is {group.max}" if decision.to < decision.current else f"its max: {wants}"
    texts = {
        "steady": f"{stay}, as many as its work needs",
        "demand": f"{change}: {wants}; {start}{coming}",
        "probe": f"{change} to find out how long its tasks take; {start}{coming}",
        "memory": f"{change}: {_data(view)}",
        "back": f"{change}: {wants}; {len(decision.back)} that were leaving come back",
        "client": f"{change} for a client; {start}",
        "min": f"{kept}, its min ({needs})",
        "max": f"{kept}, {limits}",
        "pin": f"{kept}, as a person has set it to {group.pin}",
        "budget": f"{kept}: {wants}, but there is no budget for more",
        "step-up": f"{kept}: {wants}, but {_step_up(view)}",
        "pace": f"{kept}: {wants}, but {_pace(view)}",
        "platform": f"{kept}: {wants}, but its platform holds no more{_room(view)}",
        "blocked": f"{kept}: {wants}, but {_refused(view)}",
        "unwanted": f"{change} ({needs}): what has not started is given up",
        "idle": f"{change} ({needs}): members without work are kept for {_patience(numbers)}",
        "waiting": f"{stay} ({needs}): {_lately(view)}; {start}",
        "step-down": f"{stay} ({needs}): {len(view.standing.draining)} are leaving (step_down)",
        "data": f"{stay} ({needs} by its work): their data has no room in fewer",
        "last": f"{stay} ({needs}): the others take no tasks, and one that does stays",
        "starting": f"{stay} ({needs}): the others have not started yet",
        "detail": f"{stay} ({needs}): nothing is known of single members",
        "restarted": f"{stay} ({needs}): {absent} not registered at the new scheduler",
        "no-demand": f"{stay}: the scheduler does not answer",
        "no-observation": f"{stay}: its platform does not answer",
    }
    if decision.rule in HELD:
        texts[decision.rule] = f"{stay} ({needs}): {_held(numbers)}"
    if decision.rule == "min" and platform and platform.least > group.min and group.pin is None:
        texts["min"] = f"{kept}, the smallest size that its platform takes ({needs})"
    text = texts[decision.rule]
    if decision.rule not in ("no-demand", "no-observation") and _SET not in text:
        text += f"; {_SET} {group.pin}" if group.pin is not None else _above(decision, group)
    return f"{group.name} {text}{_lost(view)}"


#: How a pin is called.
_SET = "a person has set it to"


def _wants(numbers: Mapping[str, float], view: GroupView) -> str:
    """Say who asks for the size that the group would have without bounds."""
    want = int(numbers.get("want", 0))
    if view.group.pin is not None:
        return f"{_SET} {view.group.pin}"
    if want == numbers.get("by demand") or want not in numbers.values():
        return f"{_work(numbers)} would have {want}"
    if want == numbers.get("by memory"):
        return f"its data would have {want}"
    return f"its min is {want}" if want == numbers.get("by min") else f"a client needs {want}"


def _above(decision: Decision, group: Group) -> str:
    """Name the max of a group that is larger and cannot shrink."""
    if decision.current <= group.max or decision.rule == "max":
        return ""
    return f"; its max is {group.max}"


def _held(numbers: Mapping[str, float]) -> str:
    """Say what keeps members, and how many: ``2 have tasks and 1 has actors``."""
    words = {
        "busy": ("has tasks", "have tasks"),
        "actors": ("has actors", "have actors"),
        "kept": (_KEPT_ONE, "are kept by a shuffle, or by tasks that may run nowhere else"),
        "paused": ("is paused or parked", "are paused or parked"),
    }
    found = [(int(numbers[rule]), words[rule]) for rule in HELD if numbers.get(rule)]
    return " and ".join(f"{many} {plural if many != 1 else one}" for many, (one, plural) in found)


_KEPT_ONE = "is kept by a shuffle, or by tasks that may run nowhere else"


def _data(view: GroupView) -> str:
    seen, stay = view.seen, view.current  # those that are draining will not hold it
    limit = seen.limit / max(1, seen.members) * stay
    return (
        f"{seen.nbytes / 2**30:.3g} GiB of data beside what the processes need are more than"
        f" {FULL:g} of the {limit / 2**30:.3g} GiB that {members(stay)} may use"
    )


def _step_up(view: GroupView) -> str:
    return f"at most {pending(view.group)} may be on their way, and {_are(view.starting)} (step_up)"


def _pace(view: GroupView) -> str:
    step = view.observation.step if view.observation else None
    if not step:
        return f"its platform is too busy to start more, {_are(view.starting)} on their way"
    return f"its platform starts {step} at a time, and {_are(view.starting)} on their way"


def _room(view: GroupView) -> str:
    platform = view.observation
    if platform is None or platform.most is None:
        return ""
    return f" than {platform.most}" + (f" ({platform.room})" if platform.room else "")


def _refused(view: GroupView) -> str:
    trouble = view.standing.trouble
    return f"its platform said: {trouble}" if trouble else "its platform has refused lately"


def _lately(view: GroupView) -> str:
    return "more were needed lately" if view.past.wanted else "what was needed is not known yet"


def _lost(view: GroupView) -> str:
    """Name members that should have registered long ago."""
    before = frozenset(view.back_before)
    said = ""
    for names, words in (
        ([name for name in view.lost if name not in before], "never registered"),
        ([name for name in view.lost if name in before], "did not come back to the scheduler"),
    ):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        said += f"; {', '.join(names[:5])}{more} {words}" if names else ""
    return said


def _have(many: int) -> str:
    return f"{many} {'has' if many == 1 else 'have'}"


def _are(many: int) -> str:
    return f"{many} {'is' if many == 1 else 'are'}"


def _work(numbers: Mapping[str, float]) -> str:
    """Name the ready work."""
    tasks = int(numbers.get("tasks", 0))
    if not tasks:
        return "its work"
    return f"{tasks} task{'s' * (tasks != 1)} ({lasting(numbers.get('work', 0))} of work)"


def _patience(numbers: Mapping[str, float]) -> str:
    """Say how long members are kept that are not needed: the last of a group, and the first."""
    least, most = numbers.get("patience", 0), numbers.get("patience of the first", 0)
    return (
        lasting(least)
        if least == most
        else f"{lasting(least)} (the last) to {lasting(most)} (the first)"
    )


def lasting(seconds: float) -> str:
    """Say how long something takes: ``90 s``, ``12 min``, ``30 h``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 36_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
