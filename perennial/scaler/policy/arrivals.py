"""Work that keeps coming: how many slots it takes, so that members are asked for ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from perennial.scaler.policy.packing import Need, slots_of
from perennial.scaler.policy.rules import STRETCH, STRETCHES, STRETCHES_ENOUGH
from perennial.scaler.policy.views import GroupView
from perennial.scaler.values import Flow, History

#: Begin and end of a stretch of time, and the seconds of work that came in it.
Came = tuple[float, float, float]


def flows(
    found: Sequence[Need], views: Sequence[GroupView], history: History, now: float
) -> dict[str, Flow]:
    """Add the work that has come since the latest decision, by what its tasks need.

    What came is what is ready now, less what was ready then, and what was done meanwhile: as
    much as the slots that have tasks could do.
    """
    now_ready = {key(need): need for need in found}
    result = {}
    for name in sorted({*now_ready, *history.flows}):
        flow = history.flows.get(name) or Flow()
        need = now_ready.get(name)
        ready = need.known + need.unknown if need else 0.0
        then = now if history.time is None else min(history.time, now)
        came = tuple((min(a, now), min(b, now), work) for a, b, work in flow.came)
        if now > then:
            # Counted in tasks: an estimate of their duration that grows is no new work.
            each = need.work / ready if need else 0.0
            done = flow.ready
            if need and each:
                known = need.known > need.unknown
                done = _busy(need, views) * (now - then) / each if known else 0.0
            length = max(STRETCH, (ahead(need, views) if need else 0.0) / STRETCHES)
            came = _added(came, (then, now, max(0.0, ready - flow.ready + done) * each), length)
        if need or any(work for _, _, work in came):
            result[name] = Flow(ready, came)
    return result


def key(need: Need) -> str:
    """Name what tasks need."""
    return ",".join(f"{name}:{amount:g}" for name, amount in need.signature.resources)


def steady(flow: Flow | None, ahead: float, each: float = 0.0) -> float:
    """Say how many slots the work takes that keeps coming; a single burst is none.

    Work that comes faster and faster is taken to go on so, to no more than twice what it is.
    """
    came = [(a, b, work) for a, b, work in flow.came if b > a] if flow else []
    rates = [work / (b - a) if work >= each else 0.0 for a, b, work in came]
    if len(rates) < STRETCHES_ENOUGH:
        return 0.0
    third = len(rates) // 3
    if third < 2 or min(rates[-third:]) <= max(rates[:third]):
        return median_low(rates)
    first, last = median_low(rates[:third]), median_low(rates[-third:])
    between = (came[-third][0] - came[0][0]) or 1.0
    return min(2 * last, last + (last - first) * ahead / between)


def ahead(need: Need, views: Sequence[GroupView]) -> float:
    """Say how long members take to start that can run some work."""
    able = [view.start_up for view in views if slots_of(view.group, need.signature)]
    return max(able, default=0.0)


def _added(came: tuple[Came, ...], new: Came, length: float) -> tuple[Came, ...]:
    """Add what came to the latest stretch while that is short, else as a new one."""
    begin, end, work = new
    if came and came[-1][1] - came[-1][0] < length:
        first, _, before = came[-1]
        return (*came[:-1], (first, end, before + work))
    return (*came, (begin, end, work))[-STRETCHES:]


def _busy(need: Need, views: Sequence[GroupView]) -> float:
    """Count the slots that run tasks of a signature."""
    busy = 0.0
    for view in views:
        tasks = need.processing.get(view.group.name, 0.0)
        if tasks:
            slots = slots_of(view.group, need.signature)
            busy += min(tasks, view.running * min(slots.values(), default=0.0))
    return busy
