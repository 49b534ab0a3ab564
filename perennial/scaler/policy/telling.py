"""A decision in a sentence, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping

from perennial.scaler.policy.seats import Seat
from perennial.scaler.values import Decision


def members(number: int) -> str:
    """Count members.

    Parameters
    ----------
    number : int
        How many.
    """
    return f"{number} member{'s' * (number != 1)}"


def sentence(decision: Decision, seat: Seat) -> str:
    """Say what was decided and why.

    Parameters
    ----------
    decision : Decision
        The decision, but for its reason.
    seat : Seat
        The group.
    """
    numbers = decision.numbers
    group = seat.group
    stay = f"stays at {members(decision.to)}"
    change = f"{decision.current} → {members(decision.to)}"
    need = int(numbers.get("need", 0))
    kept = change if decision.to != decision.current else stay
    start = f"a new member takes {lasting(seat.start_up)}"
    wants = f"{_work(numbers)} would have {int(numbers.get('want', 0))}"
    coming = f", {seat.starting} on their way" if seat.starting else ""
    needs = f"{need} needed"
    leaving = len(seat.standing.draining)
    absent = f"{seat.absent} have" if seat.absent else "members of other groups have"
    texts = {
        "steady": f"{stay}, as many as its work needs",
        "demand": f"{change}: {wants}; {start}{coming}",
        "probe": f"{change} to find out how long its tasks take; {start}{coming}",
        "memory": f"{change}: {seat.seen.nbytes / 2**30:.2f} GiB of data are more than 0.6 of it",
        "back": f"{change}: {wants}; {len(decision.back)} were parked and idle",
        "client": f"{change} for a client that has connected; {start}",
        "min": f"{kept}, its min ({needs})",
        "max": f"{kept}, its max: {wants}",
        "pin": f"{kept}, as a person has set it to {group.pin}",
        "budget": f"{kept}: {wants}, but there is no budget for more",
        "step-up": f"{kept}: {wants}, but {seat.starting} are on their way already (step_up)",
        "platform": f"{kept}: {wants}, but its platform takes no more",
        "blocked": f"{kept}: {wants}, but its platform said: {seat.standing.trouble or 'no'}",
        "unwanted": f"{change} ({needs}): what has not started is given up",
        "idle": f"{change} ({needs}): idle members are kept for {_patience(numbers)}",
        "waiting": f"{stay} ({needs}): more were needed lately; {start}",
        "busy": f"{stay} ({needs}): each has something to do",
        "kept": f"{stay} ({needs}): a shuffle goes on there, or tasks may run nowhere else",
        "step-down": f"{stay} ({needs}): {leaving} are leaving already (step_down)",
        "data": f"{stay} ({needs}): their data has no room in who would stay",
        "detail": f"{stay} ({needs}): nothing is known of single members",
        "restarted": f"{stay} ({needs}): {absent} not registered at the new scheduler",
        "no-demand": f"{stay}: the scheduler does not answer",
        "no-observation": f"{stay}: its platform does not answer",
    }
    text = texts[decision.rule]
    if seat.lost:
        more = f" and {len(seat.lost) - 5} more" if len(seat.lost) > 5 else ""
        text += f"; {', '.join(seat.lost[:5])}{more} never registered"
    return f"{group.name} {text}"


def _work(numbers: Mapping[str, float]) -> str:
    """Name the ready work."""
    tasks = int(numbers.get("tasks", 0))
    if not tasks:
        return "what it has"
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
    """Say how long something takes: ``90 s``, ``12 min``, ``30 h``.

    Parameters
    ----------
    seconds : float
        How many.
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 36_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
