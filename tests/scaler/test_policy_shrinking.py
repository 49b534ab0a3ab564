"""Who leaves, when, and who never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perennial.scaler.policy import decide, detail_wanted
from perennial.scaler.policy.leaving import noted, worthwhile
from perennial.scaler.values import (
    Decision,
    Group,
    GroupHistory,
    History,
    MemberSeen,
    Rules,
    Standing,
)
from tests.scaler.toy import (
    GIB,
    Toy,
    demand,
    queued,
    seen,
    standing,
)

#: A history in which nothing was wanted for a long time.
QUIET = History(groups={"cpu": GroupHistory(wanted=((0.0, 0),))}, scheduler="s", settled=True)
NOW = 10_000.0


def one(group: Group, said, stands: Standing, history: History = QUIET, now=NOW) -> Decision:
    return decide(Rules((group,)), said, {"cpu": stands}, history, now).groups["cpu"]


def cpu(**more) -> Group:
    return Group("cpu", **({"max": 10, "start_up": 60.0} | more))


def idle_group(count=8, **more):
    return demand(groups={"cpu": seen("cpu", count, **more)})


SHRINKING = {
    "a quarter at a time": (cpu(), 8, {}, 6, "idle"),
    "not below min": (cpu(min=7), 8, {}, 7, "idle"),
    "busy ones stay": (cpu(), 8, {"busy": 8}, 8, "busy"),
    "a person's idle time": (cpu(idle=0.0, step_down=1.0), 8, {}, 0, "idle"),
    "above max": (cpu(max=5), 8, {"busy": 8}, 5, "max"),
    "a pin takes busy ones, too": (cpu(pin=1), 8, {"busy": 8}, 1, "pin"),
}


@pytest.mark.parametrize("case", SHRINKING)
def test_it_shrinks_when_not_needed(case):
    group, count, more, to, rule = SHRINKING[case]
    decision = one(group, idle_group(count, **more), standing("cpu", count))
    assert (decision.to, decision.rule) == (to, rule), decision
    assert len(decision.leave) == count - to


def test_a_history_that_is_lost_makes_nothing_smaller_at_once():
    first = decide(Rules((cpu(),)), idle_group(), {"cpu": standing("cpu", 8)}, History(), NOW)
    assert (first.groups["cpu"].to, first.groups["cpu"].rule) == (8, "waiting")
    assert first.groups["cpu"].leave == ()


def test_the_first_members_are_kept_longest():
    toy = Toy((cpu(start_up=60.0, max=8),), start_up=60.0)
    toy.backlog = [10.0] * 40
    sizes = [toy.tick().groups["cpu"].to for _ in range(60)]
    assert max(sizes) == 8
    down = sizes[sizes.index(8) :]
    assert down == sorted(down, reverse=True)
    assert down[-1] == 0
    assert len(set(down)) >= 5  # one after another, not all at once


def test_one_long_task_does_not_keep_the_group():
    toy = Toy((cpu(start_up=10.0, max=8),), start_up=10.0)
    toy.backlog = [2000.0] + [5.0] * 50
    for _ in range(40):
        toy.tick()
    assert toy.size("cpu") == 1


def test_pauses_teach_how_long_to_wait():
    toy = Toy((cpu(start_up=60.0, max=4),), start_up=60.0, interval=5.0)
    sizes = []
    for tick in range(200):
        if tick % 8 == 0 and tick < 120:  # each 40 s; a return would take a minute
            toy.backlog += [4.0] * 8
        sizes.append(toy.tick().groups["cpu"].to)
    assert toy.history.groups["cpu"].gaps
    assert set(sizes[70:120]) == {4}  # kept after some pauses
    assert sizes[-1] == 0
    assert worthwhile(((40.0, 4),) * 5, price=60.0, least=5.0, most=60.0) == pytest.approx(55.0)
    assert worthwhile(((400.0, 4),) * 5, price=60.0, least=5.0, most=60.0) == 5.0
    assert worthwhile(((40.0, 4),) * 2, price=60.0, least=5.0, most=60.0) is None


def test_what_was_wanted_is_a_staircase():
    wanted, gaps = noted(((0.0, 8), (10.0, 3), (15.0, 0)), 20.0, 5, -100.0)
    assert wanted == ((0.0, 8), (20.0, 5))
    assert gaps == ((14.0, 5),)  # three members had not been needed for 10 s, two for 20 s
    wanted, gaps = noted(((0.0, 8), (10.0, 3)), 500.0, 1, 400.0)
    assert wanted == ((500.0, 1),)
    assert gaps == ((500.0, 5),)  # too long ago to wait for its end


def test_nobody_leaves_while_something_is_not_known():
    stands, group = standing("cpu", 8), cpu()
    assert one(group, None, stands).rule == "no-demand"
    assert one(group, idle_group(), Standing(None)).rule == "no-observation"
    assert one(group, idle_group(detail=None), stands).rule == "detail"
    restarted = replace(QUIET, scheduler="another")
    half = seen("cpu", 5)
    early = demand(groups={"cpu": half}, uptime=30.0)
    held = one(group, early, stands, restarted)
    assert (held.to, held.rule) == (8, "restarted")
    assert "3 have not registered" in held.reason
    assert one(group, demand(groups={"cpu": half}, uptime=9e9), stands, restarted).leave
    back = demand(groups={"cpu": seen("cpu", 8)}, uptime=30.0)
    assert one(group, back, stands, restarted).leave


def test_a_scheduler_is_settled_once_all_have_come_back():
    early = demand(groups={"cpu": seen("cpu", 5)}, uptime=30.0)
    rules, stands = Rules((cpu(),)), {"cpu": standing("cpu", 8)}
    first = decide(rules, early, stands, History(), NOW)
    assert not first.history.settled
    late = demand(groups={"cpu": seen("cpu", 8)}, uptime=35.0)
    second = decide(rules, late, stands, first.history, NOW + 5)
    assert second.history.settled
    third = decide(rules, early, stands, second.history, NOW + 500)  # one crashed: no restart
    assert third.history.settled


def test_actors_and_members_that_do_not_run_stay():
    detail = {
        "cpu-0": MemberSeen("cpu-0", actors=1, idle=9e3),
        "cpu-1": MemberSeen("cpu-1", status="paused", idle=9e3),
        "cpu-2": MemberSeen("cpu-2", status="closing_gracefully", idle=9e3),
        "cpu-9": MemberSeen("cpu-9", idle=9e3),  # the platform does not know it
        "cpu-3": MemberSeen("cpu-3", processes=0, idle=9e3),
    }
    said = demand(groups={"cpu": seen("cpu", 4, names=tuple(detail), detail=detail)})
    for group in (cpu(step_down=1.0), cpu(pin=0)):
        leaving = one(group, said, standing("cpu", 4)).leave
        assert leaving == (() if group.pin is None else ("cpu-1",))


def test_who_has_the_least_data_leaves_first():
    detail = {
        "cpu-0": MemberSeen("cpu-0", idle=50.0, nbytes=1000, unique=1),
        "cpu-1": MemberSeen("cpu-1", idle=50.0, nbytes=5000),
        "cpu-2": MemberSeen("cpu-2", idle=50.0),
        "cpu-3": MemberSeen("cpu-3", idle=60.0),
    }
    said = demand(groups={"cpu": seen("cpu", 4, detail=detail)})
    decision = one(cpu(step_down=1.0, min=1), said, standing("cpu", 4))
    assert decision.leave == ("cpu-3", "cpu-2", "cpu-1")
    chosen = replace(standing("cpu", 4), chooses=False)  # the platform goes by its own order
    assert one(cpu(step_down=0.5), said, chosen).leave == ("cpu-0", "cpu-1")


def test_data_must_fit_into_those_who_stay():
    detail = {
        name: MemberSeen(name, idle=9e3, nbytes=2 * GIB, unique=3, memory=2 * GIB)
        for name in ("cpu-0", "cpu-1", "cpu-2")
    }
    there = seen("cpu", 3, detail=detail, memory=6 * GIB, nbytes=6 * GIB)
    decision = one(cpu(step_down=1.0), demand(groups={"cpu": there}), standing("cpu", 3))
    assert (decision.to, decision.rule) == (3, "data")
    others = {"cpu": there, "big": seen("big", 4)}  # another group has room for all of it
    stands = {"cpu": standing("cpu", 3), "big": standing("big", 4)}
    rules = Rules((cpu(step_down=1.0), Group("big", min=4, max=4)))
    assert len(decide(rules, demand(groups=others), stands, QUIET, NOW).groups["cpu"].leave) == 3


def test_who_is_leaving_already_gives_no_room():
    """Eight members of 4 GiB with 1.4 GiB each need five: three leave, and then nobody else."""

    data = 14 * GIB // 10

    def told(status):
        names = [f"cpu-{number}" for number in range(8)]
        detail = {
            name: MemberSeen(name, idle=9e3, nbytes=data, unique=3, memory=data, status=status)
            if name in leaving
            else MemberSeen(name, idle=9e3, nbytes=data, unique=3, memory=data)
            for name in names
        }
        parked = len(leaving) if status == "closing_gracefully" else 0
        there = seen("cpu", 8, detail=detail, memory=8 * data, nbytes=8 * data)
        return replace(there, members=8 - parked, limit=(8 - parked) * 4 * GIB)

    leaving: tuple[str, ...] = ()
    first = one(cpu(pin=1), demand(groups={"cpu": told("running")}), standing("cpu", 8))
    assert (len(first.leave), first.to) == (3, 5)
    leaving = first.leave
    for status in ("running", "closing_gracefully"):  # told to leave, then parked
        stands = replace(standing("cpu", 8), draining=dict.fromkeys(leaving, True))
        next_ = one(cpu(pin=1), demand(groups={"cpu": told(status)}), stands)
        assert (next_.leave, next_.to, next_.rule) == ((), 5, "data")


def test_a_drain_past_its_deadline_keeps_nobody_else():
    stands = replace(standing("cpu", 8), draining={"cpu-0": True, "cpu-1": True})
    assert one(cpu(), idle_group(), stands).rule == "step-down"
    assert len(one(cpu(), idle_group(), replace(stands, late=2)).leave) == 2


def test_no_group_shrinks_before_all_are_back_at_a_new_scheduler():
    groups = (cpu(), Group("gpu", max=4, start_up=60.0, min=1))
    stands = {"cpu": standing("cpu", 8), "gpu": standing("gpu", 1)}
    history = replace(QUIET, scheduler="another")
    said = demand(groups={"cpu": seen("cpu", 8)}, uptime=20.0)
    decision = decide(Rules(groups), said, stands, history, NOW).groups["cpu"]
    assert (decision.to, decision.rule) == (8, "restarted")
    assert "members of other groups have not registered" in decision.reason
    back = demand(groups={"cpu": seen("cpu", 8), "gpu": seen("gpu", 1)}, uptime=21.0)
    assert decide(Rules(groups), back, stands, history, NOW).groups["cpu"].rule == "idle"
    late = replace(said, uptime=9e3)  # it will not come back any more
    assert decide(Rules(groups), late, stands, history, NOW).groups["cpu"].rule == "idle"


def test_short_pauses_do_not_push_out_what_was_learned():
    known = tuple((40.0, 2) for _ in range(3))
    history = replace(QUIET, groups={"cpu": GroupHistory(gaps=known, wanted=((0.0, 0),))})
    now = NOW
    for tick in range(200):  # needed each other second
        work = (queued(2, 20.0),) if tick % 2 else ()
        said = demand(*work, groups={"cpu": seen("cpu", 2)})
        decisions = decide(Rules((cpu(),)), said, {"cpu": standing("cpu", 2)}, history, now)
        history, now = decisions.history, now + 1.0
    assert set(known) <= set(history.groups["cpu"].gaps)


def test_the_last_member_keeps_what_only_it_holds():
    detail = {"cpu-0": MemberSeen("cpu-0", idle=9e3, nbytes=10, unique=1, memory=GIB)}
    said = demand(groups={"cpu": seen("cpu", 1, detail=detail)})
    assert one(cpu(), said, standing("cpu", 1)).rule == "data"
    empty = {"cpu-0": MemberSeen("cpu-0", idle=9e3)}
    said = demand(groups={"cpu": seen("cpu", 1, detail=empty)})
    assert one(cpu(), said, standing("cpu", 1)).to == 0


def test_members_on_their_way_are_given_up_first():
    stands = standing("cpu", 2, 3)
    decision = one(cpu(), demand(groups={"cpu": seen("cpu", 2, 2)}), stands)
    assert (decision.current, decision.to, decision.leave) == (5, 2, ())
    assert decision.rule == "unwanted"


def test_a_member_that_never_registers_is_named_and_not_waited_for():
    past = GroupHistory(asked={"cpu-0": 0.0}, wanted=((0.0, 0),))
    history = replace(QUIET, groups={"cpu": past})
    decision = one(cpu(), demand(queued(2, 500.0)), standing("cpu", 1), history)
    assert decision.to == 3
    assert "cpu-0 never registered" in decision.reason


@pytest.mark.parametrize(("before", "now"), [((), 600.0), ((5.0,) * 4, 300.0)])
def test_members_come_although_they_take_much_longer_than_expected(before, now):
    """Nobody is given up again and again before it comes; before: what was measured."""
    toy = Toy((cpu(start_up=5.0, max=4, idle=1e4),), start_up=now)
    toy.history = replace(toy.history, groups={"cpu": GroupHistory(start_ups=before)})
    toy.backlog = [1e6] * 4
    for _ in range(int(8 * now / toy.interval)):
        toy.tick()
    assert len(toy.registered) == 4
    start_ups = toy.history.groups["cpu"].start_ups
    assert max(start_ups) > 0.9 * now


LOST = replace(QUIET, groups={"cpu": GroupHistory(asked={"cpu-0": 0.0}, wanted=((0.0, 0),))})


def test_a_member_that_never_registered_leaves_first():
    said = demand(groups={"cpu": replace(seen("cpu", 4), names=("cpu-1", "cpu-2", "cpu-3"))})
    said.groups["cpu"].detail.pop("cpu-0")
    assert one(cpu(pin=3), said, standing("cpu", 4), LOST).leave == ("cpu-0",)
    alone = demand(groups={"cpu": seen("cpu", 0)})
    assert one(cpu(pin=0), alone, standing("cpu", 1), LOST).leave == ("cpu-0",)


def test_a_member_that_never_registered_makes_room_for_another():
    said = demand(queued(2, 500.0), groups={"cpu": seen("cpu", 0)})
    decision = one(cpu(max=1), said, standing("cpu", 1), LOST)
    assert (decision.to, decision.leave) == (0, ("cpu-0",))
    assert "cpu-0 never registered" in decision.reason
    assert one(cpu(max=4), said, standing("cpu", 1), LOST).leave == ()  # there is room beside it


def test_coming_back_to_a_new_scheduler_is_no_start():
    past = GroupHistory(wanted=((0.0, 0),), start_ups=(60.0,), names=("cpu-0", "cpu-1"))
    history = replace(QUIET, groups={"cpu": past}, time=NOW - 1)
    stands = {"cpu": standing("cpu", 3)}
    for at, names in ((0.0, ()), (1.0, ("cpu-0",)), (2.0, ("cpu-0", "cpu-1")), (30.0, "all")):
        there = ("cpu-0", "cpu-1", "cpu-2") if names == "all" else names
        said = demand(groups={"cpu": replace(seen("cpu", len(there)), names=there)}, uptime=at)
        said = replace(said, scheduler="new")
        history = decide(Rules((cpu(),)), said, stands, history, NOW + at).history
    assert history.groups["cpu"].start_ups == (60.0, 30.0)  # only that of cpu-2 was one


def test_detail_is_asked_for_only_where_somebody_may_leave():
    groups = (cpu(), Group("b", min=3, max=5), Group("c", max=5), Group("d", max=9, pin=2))
    stands = {name: standing(name, 3) for name in ("cpu", "b", "c", "d")}
    past = {"c": GroupHistory(wanted=((NOW - 1, 3),)), **QUIET.groups}
    history = replace(QUIET, groups=past)
    assert detail_wanted(Rules(groups), stands, history, NOW) == ("cpu", "d")
    unknown = {"cpu": Standing(None)}
    assert detail_wanted(Rules(groups), unknown, history, NOW) == ()


def test_it_says_when_time_alone_would_change_it():
    toy = Toy((cpu(start_up=60.0, max=1),), start_up=60.0)
    toy.backlog = [20.0]
    waits = []
    for _ in range(40):
        decision = toy.tick().groups["cpu"]
        if decision.rule == "waiting":
            waits.append((toy.now, decision.again))
    assert waits
    ends = {round(now + again) for now, again in waits}
    assert len(ends) == 1  # it says the same end each time


def test_who_is_not_registered_leaves_first_and_one_that_works_stays():
    """One worker is dead and its nanny restarts it; nobody counts it as lost yet."""
    names = ("cpu-0", "cpu-1", "cpu-3")
    detail = {name: MemberSeen(name, processing=3) for name in names}
    said = demand(groups={"cpu": seen("cpu", 3, 3, names=names, detail=detail)})
    decision = one(cpu(pin=1), said, standing("cpu", 4))
    assert decision.leave[0] == "cpu-2"
    assert len(decision.leave) == 3
    idle = {name: MemberSeen(name, idle=9e3) for name in names}
    said = demand(groups={"cpu": seen("cpu", 3, names=names, detail=idle)})
    decision = one(cpu(min=1, step_down=1.0), said, standing("cpu", 4))
    assert (decision.to, decision.leave[0]) == (1, "cpu-2")
    # Of three whose workers are all dead but one, that one stays although it is idle.
    alone = {"cpu-0": MemberSeen("cpu-0", idle=9e3)}
    said = demand(groups={"cpu": seen("cpu", 1, names=("cpu-0",), detail=alone)})
    decision = one(cpu(pin=1), said, standing("cpu", 3))
    assert set(decision.leave) == {"cpu-1", "cpu-2"}
    # Where the platform chooses, and would take it first, nobody leaves.
    picking = replace(standing("cpu", 3), chooses=False)
    decision = one(cpu(pin=1), said, picking)
    assert (decision.leave, decision.rule) == ((), "last")
