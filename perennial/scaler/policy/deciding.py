"""The decision: what is there, what work needs, what rules allow, and who leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perennial.scaler.policy import leaving, sizing
from perennial.scaler.policy.flowing import ahead, flows, key, steady
from perennial.scaler.policy.infeasible import impossible
from perennial.scaler.policy.packing import Need, Room, bound, keep, largest, needs, pack
from perennial.scaler.policy.rules import GAPS, LOST
from perennial.scaler.policy.seats import Seat, remembered, seated
from perennial.scaler.policy.telling import sentence
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
    seats: Mapping[str, Seat]
    budget: sizing.Budget
    memory: leaving.Memory
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
    seats = {}
    for group in rules.groups:
        past = remembered(history.groups.get(group.name), now)
        grew = earlier if earlier is not None and past.grown == earlier else None
        seats[group.name] = seated(group, standings.get(group.name), demand, past, now, grew)
    if demand is None:
        still = {name: _hold(seat, "no-demand") for name, seat in seats.items()}
        kept = {name: seat.past for name, seat in seats.items()}
        return Decisions(still, (), replace(history, groups=kept, time=now))
    found = needs(demand.work)
    tick = _Tick(
        rules=rules,
        demand=demand,
        history=history,
        now=now,
        seats=seats,
        budget=sizing.budget_of(rules, seats),
        memory=leaving.Memory.of(demand.groups, seats.values()),
        found=found,
        bound=bound(demand.work, seats.values()),
        flows=flows(found, list(seats.values()), history, now),
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
    seats = list(tick.seats.values())
    blocked = {seat.group.name: seat.blocked(tick.now) for seat in seats}
    lefts = {seat.group.name: sizing.left(seat, blocked[seat.group.name]) for seat in seats}
    found = tick.found
    for work in found:
        each = work.work / (work.known + work.unknown)
        work.steady = steady(tick.flows.get(key(work)), ahead(work, seats), each)
    asked, refused = _packed(tick, seats, lefts, blocked)
    kept = {room.seat.group.name: room for room in keep(found, seats, tick.bound)}
    client = _client(tick)
    decisions: dict[str, Decision] = {}
    groups: dict[str, GroupHistory] = {}
    for seat in _ranked(seats):
        name = seat.group.name
        if seat.observation is None:
            decisions[name], groups[name] = _hold(seat, "no-observation"), seat.past
            continue
        room, wakes = kept[name], client == name
        growth = sizing.growth(seat, asked[name], room.tasks > 0, wakes, blocked[name], tick.budget)
        if growth.rule == "current" and name in refused:
            growth = replace(growth, rule="budget", want=refused[name])
        need = max(room.needed, growth.weighed["memory"], int(wakes))
        if growth.to > seat.current:
            decision = _grow(seat, growth)
        else:
            decision = _shrink(tick, seat, growth, need)
        decision = _told(decision, seat, growth, room, need)
        decisions[name] = decision
        groups[name] = _remember(tick, seat, decision, need)
    return decisions, groups


def _packed(
    tick: _Tick, seats: Sequence[Seat], lefts: dict[str, int], blocked: Mapping[str, bool]
) -> tuple[dict[str, Room], dict[str, int]]:
    """Put work on to groups; what the budget refuses one group goes on to the next.

    Returns the groups, and the size that each would have that was refused.
    """
    refused: dict[str, int] = {}
    while True:
        rooms = {room.seat.group.name: room for room in pack(tick.found, seats, lefts, tick.bound)}
        if tick.budget.limit is None:
            return rooms, refused
        budget, again = replace(tick.budget), False
        for seat in _ranked(seats):
            name, room = seat.group.name, rooms[seat.group.name]
            growth = sizing.growth(seat, room, room.new > 0, False, blocked[name], budget)
            bought = growth.to - seat.current
            if growth.rule == "budget" and bought < room.new:
                refused.setdefault(name, growth.want)
                lefts[name], again = bought, True
        if not again:
            return rooms, refused


def _ranked(seats: Iterable[Seat]) -> list[Seat]:
    """Sort groups by their priority, the highest first."""
    return sorted(seats, key=lambda seat: -seat.group.priority)


def _client(tick: _Tick) -> str:
    """Name the group that starts a member for a client that has connected or scatters.

    Scattered data is no demand: without any worker it waits for one, see
    `perennial.preloads.scattering`.
    """
    seats = tick.seats.values()
    if not tick.demand.clients or any(seat.running for seat in seats):
        return ""
    coming = [seat for seat in seats if seat.starting]
    if coming:
        return coming[0].group.name
    if not _waking(tick) or any(seat.current for seat in seats):
        return ""
    able = [seat for seat in seats if sizing.left(seat, seat.blocked(tick.now)) > 0]
    able.sort(key=lambda seat: (bool(seat.group.resources), -seat.group.priority, seat.group.cost))
    return able[0].group.name if able else ""


def _waking(tick: _Tick) -> bool:
    """Whether a client waits for the first member of all, whose start may have been refused."""
    new = tick.demand.clients > tick.history.clients or tick.demand.scatters > 0
    waits = tick.demand.clients > 0 and (new or tick.history.waking)
    return waits and not any(seat.running for seat in tick.seats.values())


def _hold(seat: Seat, rule: str) -> Decision:
    """Change nothing, because something is not known."""
    decision = Decision(seat.group.name, seat.current, seat.current, rule=rule)
    return replace(decision, reason=sentence(decision, seat))


def _grow(seat: Seat, growth: sizing.Growth) -> Decision:
    """Ask for more; members that are parked and idle come back first."""
    back = seat.back[: growth.to - seat.current]
    rule = growth.rule
    if len(back) == growth.to - seat.current and rule in ("demand", "probe", "memory"):
        rule = "back"
    return Decision(seat.group.name, seat.current, growth.to, back=back, rule=rule)


def _shrink(tick: _Tick, seat: Seat, growth: sizing.Growth, need: int) -> Decision:
    """Let members leave that were not needed for long enough."""
    forced = seat.group.pin is not None or seat.current > seat.group.max
    least = sizing.least(seat)
    patience = leaving.Patience.of(seat)
    recent = patience.kept(_wanted(seat, tick.now), tick.now)
    goal = max(least, largest(seat.group) if forced else max(need, recent))
    # A person who means a size means it also of a scheduler that has just started.
    unsettled = _unsettled(tick) and seat.group.pin is None
    given = 0 if unsettled else max(0, min(seat.spare, seat.current - goal))
    many = seat.current - given - goal
    chosen = leaving.Leaving(held="restarted")
    if not unsettled:
        chosen = leaving.leaving(seat, many, goal, tick.memory, forced)
    to = seat.current - given - len(chosen.names)
    again = None
    if to < seat.current:
        hand = "pin" if seat.group.pin is not None else "max"
        rule = hand if forced else "idle" if chosen.names else "unwanted"
    elif many > 0:
        rule = chosen.held
    elif growth.rule != "current":
        rule = growth.rule
    elif to > max(least, need):
        rule = "waiting"
        again = patience.until(seat.past.wanted, tick.now, to)
    else:
        rule = "min" if to > need else "steady"
    if rule == "blocked":
        again = max(0.0, seat.standing.blocked - tick.now)
    elif rule == "restarted":
        again = max(_until_given_up(tick, each) for each in tick.seats.values())
    return Decision(
        *(seat.group.name, seat.current, to),
        leave=chosen.names,
        rule=rule,
        numbers=chosen.holding if rule == chosen.held else {},
        again=again,
    )


def _wanted(seat: Seat, now: float) -> leaving.Wanted:
    """Give what was wanted lately; of a group that is not known yet, all that is there."""
    return seat.past.wanted or ((now, seat.current),)


def _remember(tick: _Tick, seat: Seat, decision: Decision, need: int) -> GroupHistory:
    """Keep what the next decision shall know."""
    size = decision.to if decision.to > decision.current else min(need, seat.current)
    if not seat.past.wanted:
        size = max(size, seat.current)
    oldest = tick.now - 2 * max(seat.price, leaving.Patience.of(seat).least)
    wanted, gaps = leaving.noted(seat.past.wanted, tick.now, size, oldest)
    # Shorter ones would not have changed anything, and must not take the place of those that do.
    gaps = tuple((gap, many) for gap, many in gaps if gap > seat.least)
    absent = {*seat.back_before, *decision.back}
    if absent:
        absent -= seat.registered.difference(decision.back)
    return replace(
        seat.past,
        back=tuple(sorted(absent.intersection({*seat.asked, *decision.back}))),
        names=seat.seen.names,
        late=seat.lost,
        asked=seat.asked,
        start_ups=seat.start_ups,
        wanted=wanted,
        gaps=(*seat.past.gaps, *gaps)[-GAPS:],
        grown=tick.now if decision.to > decision.current else seat.past.grown,
        shrunk=tick.now if decision.to < decision.current else seat.past.shrunk,
    )


def _told(decision: Decision, seat: Seat, growth: sizing.Growth, room: Room, need: int) -> Decision:
    """Add what was weighed, and the sentence."""
    patience = leaving.Patience.of(seat)
    weighed = {f"by {name}": size for name, size in growth.weighed.items() if name != "current"}
    numbers = {
        **weighed,
        **decision.numbers,
        "want": growth.want,
        "need": need,
        "running": seat.running,
        "starting": seat.starting,
        "tasks": round(room.tasks),
        "work": round(room.work, 3),
        "start_up": round(seat.start_up, 3),
        "horizon": round(seat.horizon, 3),
        "patience": round(patience.least, 3),
        "patience of the first": round(patience.least + patience.more, 3),
    }
    return replace(
        decision, numbers=numbers, reason=sentence(replace(decision, numbers=numbers), seat)
    )


def _unsettled(tick: _Tick) -> bool:
    """Whether the scheduler is new, and members that run have not come back to it yet.

    It goes for all groups: what is missing of one may hold what the work of another needs.
    """
    if tick.history.settled and tick.history.scheduler == tick.demand.scheduler:
        return False
    return any(_until_given_up(tick, seat) > 0 for seat in tick.seats.values())


def _until_given_up(tick: _Tick, seat: Seat) -> float:
    """Say for how many seconds more a new scheduler is given to hear of a group's members."""
    return LOST * seat.start_up + 60 - tick.demand.uptime if seat.absent else 0.0


def _settled(tick: _Tick) -> bool:
    """Whether all members that run were once seen at this scheduler."""
    return not _unsettled(tick) and all(seat.observation for seat in tick.seats.values())


def detail_wanted(
    rules: Rules, standings: Mapping[str, Standing], history: History, now: float
) -> tuple[str, ...]:
    """Name the groups that may shrink now, whose members must be known one by one."""
    names = []
    for group in rules.groups:
        past = remembered(history.groups.get(group.name), now)
        here = seated(group, standings.get(group.name), None, past, now)
        if here.observation is None or here.current <= sizing.least(here):
            continue
        forced = group.pin is not None or here.current > group.max
        patience = leaving.Patience.of(here)
        wanted = patience.kept(past.wanted, now) if past.wanted else here.current
        # The last of what was wanted is replaced by what the demand says, unless it is less.
        if forced or wanted < here.current or patience.least <= 0:
            names.append(group.name)
    return tuple(names)
