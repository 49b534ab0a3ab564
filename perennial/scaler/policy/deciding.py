"""The decision: what is there, what work needs, what rules allow, and who leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perennial.scaler.policy import leaving, sizing
from perennial.scaler.policy.arrivals import ahead, flows, key, steady
from perennial.scaler.policy.infeasible import impossible
from perennial.scaler.policy.packing import Need, Room, bound, largest, needed_members, needs, pack
from perennial.scaler.policy.reasons import sentence
from perennial.scaler.policy.rules import GAPS, LOST
from perennial.scaler.policy.views import GroupView, group_view, remembered
from perennial.scaler.values import (
    Decision,
    Decisions,
    Demand,
    Flow,
    GroupHistory,
    History,
    Rules,
    Standing,
)


@dataclass(slots=True)
class _Tick:
    """What all groups of one decision share."""

    rules: Rules
    demand: Demand
    history: History
    now: float
    views: Mapping[str, GroupView]
    budget: sizing.Budget
    memory: leaving.FreeMemory
    found: Sequence[Need]
    bound: Mapping[str, Mapping[str, float]]
    flows: Mapping[str, Flow]


def decide(
    rules: Rules,
    demand: Demand | None,
    standings: Mapping[str, Standing],
    history: History,
    now: float,
) -> Decisions:
    """Decide on the size of each group, and who leaves."""
    earlier = None if history.time is None else min(history.time, now)
    views = {}
    for group in rules.groups:
        past = remembered(history.groups.get(group.name), now)
        grew = earlier if earlier is not None and past.grown == earlier else None
        views[group.name] = group_view(group, standings.get(group.name), demand, past, now, grew)
    if demand is None:
        still = {name: _hold(view, "no-demand") for name, view in views.items()}
        pasts = {name: view.past for name, view in views.items()}
        return Decisions(still, (), replace(history, groups=pasts, time=now))
    found = needs(demand.work)
    tick = _Tick(
        rules=rules,
        demand=demand,
        history=history,
        now=now,
        views=views,
        budget=sizing.budget_of(rules, views),
        memory=leaving.FreeMemory.of(demand.groups, views.values()),
        found=found,
        bound=bound(demand.work, views.values()),
        flows=flows(found, list(views.values()), history, now),
    )
    decisions, groups = _weigh(tick)
    return Decisions(
        {group.name: decisions[group.name] for group in rules.groups},
        impossible(demand.work, rules.groups),
        History(
            groups={group.name: groups[group.name] for group in rules.groups},
            scheduler=demand.scheduler,
            settled=_settled(tick),
            time=now,
            clients=demand.clients,
            waking=_waking(tick),
            flows=tick.flows,
        ),
    )


def _weigh(tick: _Tick) -> tuple[dict[str, Decision], dict[str, GroupHistory]]:
    """Decide on each group, those of the highest priority first."""
    views = list(tick.views.values())
    blocked = {view.group.name: view.blocked(tick.now) for view in views}
    lefts = {view.group.name: sizing.left(view, blocked[view.group.name]) for view in views}
    found = tick.found
    for work in found:
        each = work.work / (work.known + work.unknown)
        work.steady = steady(tick.flows.get(key(work)), ahead(work, views), each)
    asked, refused = _packed(tick, views, lefts, blocked)
    rooms = {room.view.group.name: room for room in needed_members(found, views, tick.bound)}
    client = _client(tick)
    decisions: dict[str, Decision] = {}
    groups: dict[str, GroupHistory] = {}
    for view in _ranked(views):
        name = view.group.name
        if view.observation is None:
            decisions[name], groups[name] = _hold(view, "no-observation"), view.past
            continue
        room, wakes = rooms[name], client == name
        growth = sizing.growth(view, asked[name], room.tasks > 0, wakes, blocked[name], tick.budget)
        if growth.rule == "current" and name in refused:
            growth = replace(growth, rule="budget", want=refused[name])
        need = max(room.needed, growth.weighed["memory"], int(wakes))
        if growth.to > view.current:
            decision = _grow(view, growth)
        else:
            decision = _shrink(tick, view, growth, need)
        decision = _told(decision, view, growth, room, need)
        decisions[name] = decision
        groups[name] = _remember(tick, view, decision, need)
    return decisions, groups


def _packed(
    tick: _Tick, views: Sequence[GroupView], lefts: dict[str, int], blocked: Mapping[str, bool]
) -> tuple[dict[str, Room], dict[str, int]]:
    """Pack work on to groups; what the budget refuses one group goes on to the next.

    Returns the groups, and the size that each would have that was refused.
    """
    refused: dict[str, int] = {}
    while True:
        rooms = {room.view.group.name: room for room in pack(tick.found, views, lefts, tick.bound)}
        if tick.budget.limit is None:
            return rooms, refused
        budget, again = replace(tick.budget), False
        for view in _ranked(views):
            name, room = view.group.name, rooms[view.group.name]
            growth = sizing.growth(view, room, room.new > 0, False, blocked[name], budget)
            bought = growth.to - view.current
            if growth.rule == "budget" and bought < room.new:
                refused.setdefault(name, growth.want)
                lefts[name], again = bought, True
        if not again:
            return rooms, refused


def _ranked(views: Iterable[GroupView]) -> list[GroupView]:
    """Sort groups by their priority, the highest first."""
    return sorted(views, key=lambda view: -view.group.priority)


def _client(tick: _Tick) -> str:
    """Name the group that starts a member for a client that has connected or scatters.

    Scattered data is no demand: without any worker it waits for one, see
    `perennial.preloads.scattering`.
    """
    views = tick.views.values()
    if not tick.demand.clients or any(view.running for view in views):
        return ""
    coming = [view for view in views if view.starting]
    if coming:
        return coming[0].group.name
    if not _waking(tick) or any(view.current for view in views):
        return ""
    able = [view for view in views if sizing.left(view, view.blocked(tick.now)) > 0]
    able.sort(key=lambda view: (bool(view.group.resources), -view.group.priority, view.group.cost))
    return able[0].group.name if able else ""


def _waking(tick: _Tick) -> bool:
    """Whether a client waits for the first member of all, whose start may have been refused."""
    new = tick.demand.clients > tick.history.clients or tick.demand.scatters > 0
    waits = tick.demand.clients > 0 and (new or tick.history.waking)
    return waits and not any(view.running for view in tick.views.values())


def _hold(view: GroupView, rule: str) -> Decision:
    """Change nothing, because something is not known."""
    decision = Decision(view.group.name, view.current, view.current, rule=rule)
    return replace(decision, reason=sentence(decision, view))


def _grow(view: GroupView, growth: sizing.Growth) -> Decision:
    """Ask for more; members that are parked and idle come back first."""
    back = view.back[: growth.to - view.current]
    rule = growth.rule
    if len(back) == growth.to - view.current and rule in ("demand", "probe", "memory"):
        rule = "back"
    return Decision(view.group.name, view.current, growth.to, back=back, rule=rule)


def _shrink(tick: _Tick, view: GroupView, growth: sizing.Growth, need: int) -> Decision:
    """Choose members to leave that were not needed for long enough."""
    forced = view.group.pin is not None or view.current > view.group.max
    least = sizing.least(view)
    patience = leaving.IdleTolerance.of(view)
    recent = patience.wanted_lately(_wanted(view, tick.now), tick.now)
    goal = max(least, largest(view.group) if forced else max(need, recent))
    # A person who means a size means it also of a scheduler that has just started.
    unsettled = _unsettled(tick) and view.group.pin is None
    given = 0 if unsettled else max(0, min(view.spare, view.current - goal))
    many = view.current - given - goal
    chosen = leaving.Leaving(held="restarted")
    if not unsettled:
        chosen = leaving.leaving(view, many, goal, tick.memory, forced)
    to = view.current - given - len(chosen.names)
    again = None
    if to < view.current:
        hand = "pin" if view.group.pin is not None else "max"
        rule = hand if forced else "idle" if chosen.names else "unwanted"
    elif many > 0:
        rule = chosen.held
    elif growth.rule != "current":
        rule = growth.rule
    elif to > max(least, need):
        rule = "waiting"
        again = patience.until(view.past.wanted, tick.now, to)
    else:
        rule = "min" if to > need else "steady"
    if rule == "blocked":
        again = max(0.0, view.standing.blocked - tick.now)
    elif rule == "restarted":
        again = max(_until_given_up(tick, each) for each in tick.views.values())
    return Decision(
        *(view.group.name, view.current, to),
        leave=chosen.names,
        rule=rule,
        numbers=chosen.holding if rule == chosen.held else {},
        again=again,
    )


def _wanted(view: GroupView, now: float) -> leaving.Wanted:
    """Give what was wanted lately; of a group that is not known yet, all that is there."""
    return view.past.wanted or ((now, view.current),)


def _remember(tick: _Tick, view: GroupView, decision: Decision, need: int) -> GroupHistory:
    """Keep what the next decision shall know."""
    size = decision.to if decision.to > decision.current else min(need, view.current)
    if not view.past.wanted:
        size = max(size, view.current)
    oldest = tick.now - 2 * max(view.price, leaving.IdleTolerance.of(view).least)
    wanted, gaps = leaving.noted(view.past.wanted, tick.now, size, oldest)
    # Shorter ones would not have changed anything, and must not take the place of those that do.
    gaps = tuple((gap, many) for gap, many in gaps if gap > view.least)
    absent = {*view.back_before, *decision.back}
    if absent:
        absent -= view.registered.difference(decision.back)
    return replace(
        view.past,
        back=tuple(sorted(absent.intersection({*view.asked, *decision.back}))),
        names=view.seen.names,
        late=view.lost,
        asked=view.asked,
        start_ups=view.start_ups,
        wanted=wanted,
        gaps=(*view.past.gaps, *gaps)[-GAPS:],
        grown=tick.now if decision.to > decision.current else view.past.grown,
        shrunk=tick.now if decision.to < decision.current else view.past.shrunk,
    )


def _told(
    decision: Decision, view: GroupView, growth: sizing.Growth, room: Room, need: int
) -> Decision:
    """Add what was weighed, and the sentence."""
    patience = leaving.IdleTolerance.of(view)
    weighed = {f"by {name}": size for name, size in growth.weighed.items() if name != "current"}
    numbers = {
        **weighed,
        **decision.numbers,
        "want": growth.want,
        "need": need,
        "running": view.running,
        "starting": view.starting,
        "tasks": round(room.tasks),
        "work": round(room.work, 3),
        "start_up": round(view.start_up, 3),
        "horizon": round(view.horizon, 3),
        "patience": round(patience.least, 3),
        "patience of the first": round(patience.least + patience.more, 3),
    }
    return replace(
        decision, numbers=numbers, reason=sentence(replace(decision, numbers=numbers), view)
    )


def _unsettled(tick: _Tick) -> bool:
    """Whether the scheduler is new, and members that run have not come back to it yet.

    It goes for all groups: what is missing of one may hold what the work of another needs.
    """
    if tick.history.settled and tick.history.scheduler == tick.demand.scheduler:
        return False
    return any(_until_given_up(tick, view) > 0 for view in tick.views.values())


def _until_given_up(tick: _Tick, view: GroupView) -> float:
    """Say for how many seconds more a new scheduler is given to hear of a group's members."""
    return LOST * view.start_up + 60 - tick.demand.uptime if view.absent else 0.0


def _settled(tick: _Tick) -> bool:
    """Whether all members that run were once seen at this scheduler."""
    return not _unsettled(tick) and all(view.observation for view in tick.views.values())


def detail_wanted(
    rules: Rules, standings: Mapping[str, Standing], history: History, now: float
) -> tuple[str, ...]:
    """Name the groups that may shrink now, whose members must be known one by one."""
    names = []
    for group in rules.groups:
        past = remembered(history.groups.get(group.name), now)
        here = group_view(group, standings.get(group.name), None, past, now)
        if here.observation is None or here.current <= sizing.least(here):
            continue
        forced = group.pin is not None or here.current > group.max
        patience = leaving.IdleTolerance.of(here)
        wanted = patience.wanted_lately(past.wanted, now) if past.wanted else here.current
        # The last of what was wanted is replaced by what the demand says, unless it is less.
        if forced or wanted < here.current or patience.least <= 0:
            names.append(group.name)
    return tuple(names)
