"""Each rule of the policy, as data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perennial.observation import Observation
from perennial.scaler.policy import RULES, decide
from perennial.scaler.policy.arrivals import steady
from perennial.scaler.values import (
    Decision,
    Flow,
    Group,
    GroupHistory,
    History,
    Load,
    Rules,
    Signature,
    Standing,
    Work,
)
from tests.scaler.toy import (
    FPGA,
    GIB,
    GPU,
    PINNED,
    Toy,
    demand,
    members,
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


GROWING = {
    "all tasks are long: one slot each": (cpu(), [queued(6, 100.0)], 0, 6, "demand"),
    "short tasks: done within the horizon of 3 s": (cpu(), [queued(60, 0.1)], 0, 2, "demand"),
    "no more than max": (cpu(max=4), [queued(100, 10.0)], 0, 4, "max"),
    "unknown: a few find out": (cpu(), [queued(6, None)], 0, 4, "probe"),
    "unknown, fewer than a probe": (cpu(), [queued(3, None)], 0, 3, "probe"),
    "nothing": (cpu(), [], 0, 0, "steady"),
    "min": (cpu(min=2), [], 0, 2, "min"),
    "min above max": (cpu(min=12), [], 0, 10, "min"),
    "a pin": (cpu(pin=12), [queued(100, 10.0)], 0, 12, "pin"),
    "done before a new one comes": (cpu(), [queued(60, 1.0)], 1, 1, "steady"),
    "not done before a new one comes": (cpu(), [queued(120, 1.0)], 1, 10, "max"),
    "slots": (cpu(slots=4), [queued(8, 100.0)], 0, 2, "demand"),
    "steps": (cpu(step_up=0.2), [queued(8, 100.0)], 0, 2, "step-up"),
    "a horizon of a person's": (cpu(horizon=30.0), [queued(60, 1.0)], 0, 2, "demand"),
    "waiting tasks are no demand": (cpu(), [Work(waiting=1000)], 0, 0, "steady"),
}


@pytest.mark.parametrize("case", GROWING)
def test_it_grows_for_work_that_is_still_there(case):
    group, work, running, to, rule = GROWING[case]
    said = demand(*work, groups={"cpu": seen("cpu", running, running)})
    decision = one(group, said, standing("cpu", running))
    assert (decision.to, decision.rule) == (to, rule), decision
    assert decision.rule in RULES
    assert decision.reason.startswith("cpu ")


def test_members_on_their_way_are_counted():
    decision = one(cpu(), demand(queued(6, 100.0)), standing("cpu", 0, 4))
    assert (decision.current, decision.to) == (4, 6)
    asked = Standing(Observation(5, (), settled=False))  # asked for, and not even named yet
    assert one(cpu(), demand(queued(6, 100.0)), asked).to == 6
    assert one(cpu(), demand(queued(4, 100.0)), asked).to == 4  # one is given up


def test_a_pin_is_kept_within_what_the_platform_holds_unless_it_is_forced():
    stands = Standing(Observation(2, members("cpu", 2), most=5, room="2 cores"))
    there = demand(groups={"cpu": seen("cpu", 2)})
    decision = one(cpu(max=4, pin=200), there, stands)
    assert (decision.to, decision.rule) == (5, "platform")
    assert decision.reason == (
        "cpu 2 → 5 members: a person has set it to 200, but its platform holds no more than 5"
        " (2 cores)"
    )
    forced = one(cpu(max=4, pin=200, forced=True), there, stands)
    assert (forced.to, forced.rule) == (200, "pin")


def test_members_start_in_steps_for_whatever_reason():
    def at(running, starting, **more):
        names = tuple(f"cpu-{i}" for i in range(running))
        found = demand(queued(99, 1e4), groups={"cpu": seen("cpu", running, names=names)})
        stands = standing("cpu", running, starting)
        stands = replace(stands, observation=replace(stands.observation, step=4))
        return one(cpu(max=40, **more), found, stands)

    for more in ({}, {"pin": 30}, {"min": 30}):
        assert (at(0, 0, **more).to, at(0, 0, **more).rule) == (4, "pace"), more
        assert (at(1, 3, **more).to, at(1, 3, **more).rule) == (5, "pace"), more
        assert (at(4, 4, **more).to, at(4, 4, **more).rule) == (8, "pace"), more
    assert "starts 4 at a time, and 3 are on their way" in at(1, 3).reason


def test_a_pin_downwards_is_obeyed_in_the_middle_of_a_start():
    """Nobody has registered, at a scheduler that has just started."""
    stands = Standing(Observation(8, members("cpu", 8), settled=False))
    fresh = replace(demand(groups={}), uptime=1.0, scheduler="new")
    decision = one(cpu(pin=1), fresh, stands)
    assert (decision.to, decision.rule, len(decision.leave)) == (1, "pin", 7)


def test_a_task_that_runs_for_long_is_known_to_be_long():
    ready = Load(20, 0.0, 20)
    short = Work(queued=ready, processing={"cpu": Load(2, 0.0, 2)})
    there = {"cpu": seen("cpu", 2, 2)}
    first = one(cpu(), demand(short, groups=there), standing("cpu", 2))
    later = one(cpu(), demand(replace(short, elapsed=50.0), groups=there), standing("cpu", 2))
    assert first.to == 2
    assert later.to == 10


def test_start_ups_are_learned():
    toy = Toy((cpu(start_up=5.0, max=3),), start_up=40.0)
    toy.backlog = [30.0] * 20
    for _ in range(12):
        toy.tick()
    times = toy.history.groups["cpu"].start_ups
    assert len(times) == 3
    assert all(40 <= time <= 45 for time in times)
    decision = toy.tick().groups["cpu"]
    assert decision.numbers["start_up"] == pytest.approx(max(times))


def test_a_restart_teaches_nothing_about_starts():
    there = seen("cpu", 3, 1, names=("cpu-0", "cpu-1", "cpu-2"), members=1)
    parked = standing("cpu", 3, draining={"cpu-1": True, "cpu-2": True})
    first = decide(
        Rules((cpu(),)),
        demand(queued(9, 100.0), groups={"cpu": there}),
        {"cpu": parked},
        QUIET,
        NOW,
    )
    assert first.groups["cpu"].back == ("cpu-1", "cpu-2")
    gone = replace(there, names=("cpu-0",))
    said = demand(queued(9, 100.0), groups={"cpu": gone})
    second = decide(Rules((cpu(),)), said, {"cpu": standing("cpu", 3)}, first.history, NOW + 1)
    said = demand(queued(9, 100.0), groups={"cpu": seen("cpu", 3, 3)})
    third = decide(Rules((cpu(),)), said, {"cpu": standing("cpu", 3)}, second.history, NOW + 2)
    assert third.history.groups["cpu"].start_ups == ()


def test_parked_members_come_back_before_new_ones_start():
    there = seen("cpu", 3, 1, members=1)
    stands = standing("cpu", 3, draining={"cpu-1": False, "cpu-2": True})
    decision = one(cpu(), demand(queued(2, 500.0), groups={"cpu": there}), stands)
    assert (decision.current, decision.to, decision.back) == (1, 2, ("cpu-2",))
    assert decision.rule == "back"
    decision = one(cpu(), demand(queued(3, 500.0), groups={"cpu": there}), stands)
    assert (decision.to, decision.back, decision.rule) == (3, ("cpu-2",), "demand")


CHOICE = {
    "cheapest slot": ([Group("a", max=5, cost=2.0), Group("b", max=5)], {"b": 3}),
    "priority": ([Group("a", max=5), Group("b", max=5, priority=1, cost=9)], {"b": 3}),
    "overflow": ([Group("a", max=2), Group("b", max=5)], {"a": 2, "b": 1}),
    "no scarce group": ([Group("a", max=2), Group("g", max=5, resources={"GPU": 1})], {"a": 2}),
    "none else": ([Group("g", max=5, resources={"GPU": 1})], {"g": 3}),
    "scarce, by priority": (
        [Group("a", max=2), Group("g", max=5, resources={"GPU": 1}, priority=1)],
        {"g": 3},
    ),
    "quicker start": ([Group("a", max=5, start_up=90), Group("b", max=5, start_up=9)], {"b": 3}),
}


@pytest.mark.parametrize("case", CHOICE)
def test_it_chooses_the_group(case):
    groups, expected = CHOICE[case]
    stands = {group.name: standing(group.name, 0) for group in groups}
    decisions = decide(Rules(tuple(groups)), demand(queued(3, 500.0)), stands, History(), NOW)
    assert {name: d.to for name, d in decisions.groups.items() if d.to} == expected


def test_a_group_that_is_blocked_is_replaced_by_the_next():
    groups = (Group("a", max=5), Group("b", max=5, cost=3.0))
    blocked = replace(standing("a", 0), blocked=NOW + 40, trouble="no capacity in this zone")
    stands = {"a": blocked, "b": standing("b", 0)}
    decisions = decide(Rules(groups), demand(queued(3, 500.0)), stands, History(), NOW)
    assert decisions.groups["a"].to == 0
    assert decisions.groups["b"].to == 3
    alone = decide(Rules(groups[:1]), demand(queued(3, 500.0)), stands, History(), NOW)
    decision = alone.groups["a"]
    assert (decision.to, decision.rule, decision.again) == (0, "blocked", 40.0)
    assert "no capacity in this zone" in decision.reason


def test_the_most_constrained_work_comes_first():
    groups = (Group("cpu", max=4), Group("gpu", max=4, slots=2, resources={"GPU": 1.0}, cost=4.0))
    stands = {name: standing(name, 0) for name in ("cpu", "gpu")}
    work = (queued(3, 500.0), queued(2, 500.0, GPU))
    decisions = decide(Rules(groups), demand(*work), stands, History(), NOW)
    # Two members for two GPUs; each has a thread left, so that one plain task needs a member.
    assert {name: d.to for name, d in decisions.groups.items()} == {"cpu": 1, "gpu": 2}


def test_tasks_that_pile_up_on_one_member_are_demand():
    group = Group("gpu", max=8, resources={"GPU": 1.0}, start_up=10.0)
    work = Work(GPU, processing={"gpu": Load(10, 500.0)})
    said = demand(work, groups={"gpu": seen("gpu", 1, 1)})
    decision = decide(Rules((group,)), said, {"gpu": standing("gpu", 1)}, QUIET, NOW).groups["gpu"]
    assert decision.to == 8


INFEASIBLE = {
    "60 tasks need FPGA: 1; no group has it": (queued(60, 1.0, FPGA), ()),
    "1 task needs GPU: 4; but a member of gpu has GPU: 2": (
        queued(1, 1.0, Signature((("GPU", 4.0),))),
        (Group("gpu", max=2, resources={"GPU": 2.0}),),
    ),
    "2 tasks need GPU: 4; but a process of a member of gpu has GPU: 2": (
        queued(2, 1.0, Signature((("GPU", 4.0),))),
        (Group("gpu", max=2, processes=2, slots=2, resources={"GPU": 2.0}),),
    ),
    "3 tasks need GPU: 1; gpu could run them, but may have no member (max: 0)": (
        queued(3, 1.0, GPU),
        (Group("gpu", max=0, resources={"GPU": 2.0}),),
    ),
    "3 tasks name a worker or a host; it is not there, and a new member helps only if it is that"
    " one": (
        queued(3, 1.0, PINNED),
        (),
    ),
    "5 tasks need FPGA: 1, GPU: 1; no group has them together": (
        queued(5, 1.0, Signature((("FPGA", 1.0), ("GPU", 1.0)))),
        (Group("gpu", max=2, resources={"GPU": 2}), Group("fpga", max=2, resources={"FPGA": 2})),
    ),
    "5 tasks need FPGA: 1, GPU: 1; no group has FPGA": (
        queued(5, 1.0, Signature((("FPGA", 1.0), ("GPU", 1.0)))),
        (Group("gpu", max=2, resources={"GPU": 2.0}),),
    ),
}


@pytest.mark.parametrize("text", INFEASIBLE)
def test_work_that_nobody_can_run_is_named_and_asks_for_nothing(text):
    work, groups = INFEASIBLE[text]
    groups = (Group("cpu", max=5), *groups)
    stands = {group.name: standing(group.name, 0) for group in groups}
    decisions = decide(Rules(groups), demand(work), stands, History(), NOW)
    assert [found.text for found in decisions.infeasible] == [text]
    assert all(decision.to == 0 for decision in decisions.groups.values())


def test_memory_is_shared_out():
    full = seen("cpu", 2, 2, nbytes=6 * GIB, memory=6 * GIB)
    work = Work(processing={"cpu": Load(2, 2.0)})
    decision = one(cpu(), demand(work, groups={"cpu": full}), standing("cpu", 2))
    assert (decision.to, decision.rule) == (3, "memory")
    idle = one(cpu(), demand(groups={"cpu": replace(full, busy=0)}), standing("cpu", 2))
    assert idle.to <= 2


def test_the_budget_holds_for_all():
    groups = (
        Group("a", max=5, cost=2.0),
        Group("b", max=5, priority=1, cost=3.0, resources={"B": 1}),
    )
    stands = {name: standing(name, 0) for name in "ab"}
    work = (queued(5, 500.0), queued(5, 500.0, Signature((("B", 1.0),))))
    decisions = decide(Rules(groups, budget=13.0), demand(*work), stands, History(), NOW).groups
    assert (decisions["b"].to, decisions["b"].rule) == (4, "budget")
    assert (decisions["a"].to, decisions["a"].rule) == (0, "budget")


def test_what_the_budget_refuses_goes_on_to_a_cheaper_group():
    fast, slow = Group("fast", max=5, priority=1, cost=10.0), Group("slow", max=5, cost=1.0)
    stands = {name: standing(name, 0) for name in ("fast", "slow")}

    def sizes(budget):
        rules = Rules((fast, slow), budget=budget)
        decided = decide(rules, demand(queued(5, 500.0)), stands, History(), NOW).groups
        return decided["fast"].to, decided["slow"].to

    assert sizes(5.0) == (0, 5)
    assert sizes(22.0) == (2, 2)  # those of the highest priority come first
    assert sizes(None) == (5, 0)
    assert sizes(0.5) == (0, 0)


def test_a_client_whose_member_was_refused_is_not_forgotten():
    said = demand(clients=1)
    first = decide(Rules((Group("cpu"),)), said, {"cpu": standing("cpu", 0)}, QUIET, 10.0)
    assert first.groups["cpu"].to == 1
    refused = {"cpu": standing("cpu", 0, blocked=30.0, trouble="no capacity")}
    second = decide(Rules((Group("cpu"),)), said, refused, first.history, 20.0)
    assert second.groups["cpu"].to == 0
    third = decide(Rules((Group("cpu"),)), said, {"cpu": standing("cpu", 0)}, second.history, 40.0)
    assert (third.groups["cpu"].to, third.groups["cpu"].rule) == (1, "client")
    gone = decide(Rules((Group("cpu"),)), demand(), refused, first.history, 20.0)
    last = decide(Rules((Group("cpu"),)), said, refused, gone.history, 25.0)
    assert last.history.waking
    idle = {"cpu": seen("cpu", 1)}
    there = decide(
        Rules((Group("cpu"),)),
        demand(clients=1, groups=idle),
        {"cpu": standing("cpu", 1)},
        third.history,
        50.0,
    )
    assert not there.history.waking


def test_plain_work_finds_no_room_where_pinned_work_runs():
    """Three short tasks behind pinned ones that take an hour: new members are asked for."""
    group = Group("cpu", max=10, start_up=30.0)
    pinned = Work(PINNED, processing={"cpu": Load(4, 4 * 3600.0)})
    plain = queued(3, 100.0)
    groups = {"cpu": seen("cpu", 4, busy=4)}

    def size(*work):
        return decide(
            Rules((group,)), demand(*work, groups=groups), {"cpu": standing("cpu", 4)}, QUIET, 10.0
        ).groups["cpu"]

    assert (size(pinned).to, size(pinned).numbers["need"]) == (4, 4)
    assert (size(pinned, plain).to, size(pinned, plain).rule) == (7, "demand")
    assert size(plain).to == 4
    # They may pile up on one member; the others are free.
    groups = {"cpu": seen("cpu", 4, busy=1)}
    assert size(pinned, plain).to == 4
    assert size(pinned).numbers["need"] == 1


def test_a_client_wakes_one_member_that_waits_for_it():
    toy = Toy((cpu(start_up=60.0),), start_up=60.0, history=History(time=0.0))
    decision = toy.tick().groups["cpu"]
    assert (decision.to, decision.rule) == (1, "client")
    for _ in range(13):  # it is there after a minute, and is not given up on the way
        assert toy.tick().groups["cpu"].to == 1
    for _ in range(60):  # and goes when nothing comes
        decision = toy.tick().groups["cpu"]
    assert decision.to == 0


def test_steady_work_is_asked_for_ahead():
    """With a start-up of three minutes, work that keeps coming is not waited for to pile up."""
    toy = Toy((cpu(start_up=180.0, max=20),), start_up=180.0)
    for tick in range(200):
        toy.backlog += [4.0] * (5 if tick < 100 else 10)  # 4, then 8 slots' worth
        toy.tick()
        if tick == 99:
            assert 4 <= toy.size("cpu") <= 6
    assert toy.size("cpu") >= 8
    assert len(toy.backlog) < 10


def test_data_that_waits_for_a_worker_wakes_a_group():
    """The client has been known for long, so that it is not new."""
    known = History(scheduler="s", settled=True, clients=1, time=NOW - 1)
    said = replace(demand(), clients=1)
    assert one(cpu(), said, standing("cpu", 0), known).to == 0
    decision = one(cpu(), replace(said, scatters=1), standing("cpu", 0), known)
    assert (decision.to, decision.rule) == (1, "client")


def test_steady_work_is_told_from_bursts_and_may_rise():
    def flow(*rates):
        return Flow(1.0, tuple((10.0 * i, 10.0 * i + 10, 10.0 * r) for i, r in enumerate(rates)))

    assert steady(None, 60.0) == 0
    assert steady(flow(4, 4, 4), 60.0) == 0  # too little is known
    assert steady(flow(0, 0, 500, 0, 0, 0), 60.0) == 0  # a burst
    assert steady(flow(4, 5, 4, 3, 4, 4), 60.0) == 4
    assert steady(flow(1, 2, 3, 4, 5, 6), 20.0) == pytest.approx(5 + (5 - 1) * 20 / 40)
    assert steady(flow(1, 2, 3, 4, 5, 6), 600.0) == 10  # no more than twice what it is


def test_a_task_that_takes_longer_than_thought_is_no_new_work():
    history, said = QUIET, None
    for tick in range(60):
        work = Work(processing={"cpu": Load(1, float(tick))})
        said = demand(work, groups={"cpu": seen("cpu", 1, 1)})
        found = decide(
            Rules((cpu(),)), said, {"cpu": standing("cpu", 1)}, history, NOW + 1.0 * tick
        )
        assert found.groups["cpu"].to == 1
        history = found.history


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_explained_in_sentences(rule):
    page = (Path(__file__).parents[2] / "docs/concepts/scaling.md").read_text(encoding="utf-8")
    assert f"| `{rule}` | {RULES[rule]} |" in page


def test_members_of_a_group_without_a_standing_are_unknown():
    decision = decide(Rules((cpu(),)), demand(queued(9, 9.0)), {}, QUIET, NOW).groups["cpu"]
    assert (decision.to, decision.rule) == (0, "no-observation")
    assert members("cpu", 1)[0].worker == "cpu-0"
