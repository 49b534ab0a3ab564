"""What somebody who knows the future would do, and what nobody can beat.

Two things, for a trace, members that take ``S`` seconds to start, and groups of at most ``m``
members with ``k`` slots; nothing can be asked for before the trace begins.

**The clairvoyant** is a schedule that could be carried out. Pass 1: all members are there from
``S`` on, and tasks are given out greedily, in the order of the requests and, in a request, by
the longest path that hangs on a task; this gives each request's end ``C``. Pass 2: each group is
made as small as it can be without any request ending after its ``C``. The number of slots in use
over time is then cut into levels: level ``i`` is busy while at least ``i`` members are needed. Each
level is one member, asked for ``S`` before it is first needed; in a gap of ``g`` seconds it is
kept or stopped and started anew, whichever is cheaper: ``cost = price × (S + busy + Σ min(g, S))``.
No start fails, and moving data costs nothing.

**The bound** holds for every schedule, that of the clairvoyant too:

- makespan ≥ ``max(r, S) + W(r) / M(s)`` for every time ``r`` and every set ``s`` of signatures
  that the same groups can run, with ``W(r)`` the work that comes at or after ``r`` and ``M`` the
  slots of those groups, and ≥ ``max(r, S) + P`` for the longest path ``P`` of each request. In a
  closed loop the rounds add up, with the time in which somebody thinks.
- cost ≥ ``Σ W × price ÷ k`` of the cheapest group that can run the work, plus ``S × price`` for as
  many members as the densest time needs to end when the clairvoyant does.

The rules of thumb are those of list scheduling (Graham 1969) and of renting or buying skis
(Karlin and others 1988), where the offline player pays ``min(g, S)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.scaler.measure import percentile
from benchmarks.scaler.schedule import Schedule, Span, able, feasible, levels, paths
from benchmarks.scaler.tasks import Request
from benchmarks.scaler.world import Trace
from perennial.scaler.values import Group, Signature


@dataclass(frozen=True, slots=True)
class Bound:
    """What nobody can beat."""

    makespan: float
    latency: float
    cost: float


@dataclass(frozen=True, slots=True)
class Known:
    """The clairvoyant's schedule, and the bound.

    Parameters
    ----------
    makespan, cost : float
        Of the clairvoyant.
    latencies : tuple of float
        Of each request.
    members : mapping of str to list of (float, float)
        When each member is asked for and stopped, by group.
    bound : Bound
        What nobody can beat.
    """

    makespan: float
    cost: float
    latencies: tuple[float, ...]
    members: Mapping[str, list[Span]]
    bound: Bound


def known(trace: Trace, start_up: float) -> Known:
    """Find out what the clairvoyant would do."""
    groups = trace.rules.groups
    sizes = {group.name: group.max for group in groups}
    best = Schedule(trace, start_up, sizes)
    best.run()
    for group in groups:
        for size in range(group.min, group.max):
            smaller = {**sizes, group.name: size}
            trial = Schedule(trace, start_up, smaller, best.ends)
            if _all_run(trial) and trial.run():
                sizes = smaller
                break
    found = Schedule(trace, start_up, sizes)
    found.run()
    members = {g.name: list(levels(found.busy[g.name], g.slots, start_up)) for g in groups}
    makespan = max(found.ends)
    return Known(
        makespan=makespan,
        cost=sum(g.cost * sum(end - begin for begin, end in members[g.name]) for g in groups),
        latencies=tuple(e - b for b, e in zip(found.begins, found.ends, strict=True)),
        members=members,
        bound=bound(trace, start_up, makespan),
    )


def _all_run(schedule: Schedule) -> bool:
    needs = {task.needs for task in schedule.index}
    return all(any(able(one, group) for group in schedule.groups) for one in needs)


def bound(trace: Trace, start_up: float, end: float) -> Bound:
    """Give what no schedule can beat; the cost if it shall end by a time.

    Parameters
    ----------
    trace : Trace
        The work.
    start_up : float
        Seconds from asking for a member until it works.
    end : float
        When a schedule must end for which the cost is given.
    """
    groups = trace.rules.groups
    needs = {task.needs for request in feasible(trace) for task in request.tasks}
    sets = {frozenset(g.name for g in groups if able(one, g)) for one in needs}
    makespan, latencies, cost = 0.0, [0.0], 0.0
    dense: dict[frozenset[str], float] = {}
    for one in sets:
        inside = {n for n in needs if {g.name for g in groups if able(n, g)} <= one}
        slots = sum(group.max * group.slots for group in groups if group.name in one)
        shortest, dense[one] = _open(trace, inside, slots, start_up, end)
        makespan = max(makespan, shortest)
    makespan = max(makespan, _closed(trace, sum(g.max * g.slots for g in groups), start_up, dense))
    for request in feasible(trace):
        longest = max(paths(request).values())
        at = 0.0 if request in trace.rounds else request.time
        latencies.append(longest + (max(0.0, start_up - at) if at or request.time == 0 else 0.0))
        cost += sum(task.seconds * _cheapest(groups, task.needs) for task in request.tasks)
    return Bound(
        makespan, percentile(latencies[1:], 0.95), cost + start_up * _starts(groups, dense)
    )


def _work(request: Request, inside: set[Signature]) -> float:
    return sum(task.seconds for task in request.tasks if task.needs in inside)


def _open(
    trace: Trace, inside: set[Signature], slots: int, start_up: float, end: float
) -> tuple[float, float]:
    """Give, for what comes at fixed times, the makespan and the slots of the densest time."""
    work = makespan = dense = 0.0
    for request in sorted(trace.requests, key=lambda request: -request.time):
        if request.feasible:
            begin = max(request.time, start_up)
            work += _work(request, inside)
            makespan = max(makespan, begin + work / slots, begin + max(paths(request).values()))
            dense = max(dense, work / max(end - begin, 1e-9))
    return makespan, dense


def _closed(trace: Trace, slots: int, start_up: float, dense: dict[frozenset[str], float]) -> float:
    """Give the makespan of rounds, each by itself; note the slots that the densest one needs."""
    end = 0.0
    for request in trace.rounds:
        begin = max(end + request.time, start_up)
        work = sum(task.seconds for task in request.tasks)
        took = max(work / slots, *paths(request).values())
        for one, slots_before in dense.items():  # rounds have one kind of task
            dense[one] = max(slots_before, work / took)
        end = begin + took
    return end


def _cheapest(groups: tuple[Group, ...], needs: Signature) -> float:
    return min(group.cost / group.slots for group in groups if able(needs, group))


def _starts(groups: tuple[Group, ...], dense: Mapping[frozenset[str], float]) -> float:
    """Give the price of the members that the densest time needs, for a second of each."""
    counted: dict[str, int] = {}
    for one in sorted(dense, key=len):
        able_groups = [group for group in groups if group.name in one]
        most = max(group.slots for group in able_groups)
        more = math.ceil(dense[one] / most - 1e-9) - sum(counted.get(g, 0) for g in one)
        cheap = min(able_groups, key=lambda group: group.cost)
        counted[cheap.name] = counted.get(cheap.name, 0) + max(0, more)
    return sum(group.cost * counted.get(group.name, 0) for group in groups)
