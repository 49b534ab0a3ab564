"""Every sentence is true of the numbers beside it: generated worlds, and one case for each kind."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perennial.observation import Member, Observation
from perennial.scaler.policy import decide
from perennial.scaler.policy.rules import FULL
from perennial.scaler.policy.views import GroupView, group_view, remembered
from perennial.scaler.values import (
    Demand,
    Group,
    GroupHistory,
    GroupSeen,
    History,
    Load,
    MemberSeen,
    Rules,
    Standing,
    Work,
)
from tests.examples import examples
from tests.scaler.toy import GIB, demand, queued, seen, standing

QUIET = History(groups={"cpu": GroupHistory(wanted=((0.0, 0),))}, scheduler="s", settled=True)
NOW = 10_000.0
relaxed = settings(
    deadline=None, max_examples=examples(600), suppress_health_check=[HealthCheck.too_slow]
)


def cpu(**more) -> Group:
    return Group("cpu", **({"max": 10, "start_up": 60.0} | more))


def one(group, said, stands, history=QUIET):
    return decide(Rules((group,)), said, {"cpu": stands}, history, NOW).groups["cpu"]


def number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None


def holds(decision, group, view) -> None:
    """Assert that each number and each claim of a sentence is so."""
    assert decision.reason.startswith(f"{group.name} ")
    sizes_hold(decision, view)
    bounds_hold(decision, group, view)
    members_hold(decision, view)
    for name in view.lost[:5]:
        word = "did not come back" if name in view.back_before else "never registered"
        assert name in decision.reason
        assert word in decision.reason


def sizes_hold(decision, view) -> None:
    text, numbers = decision.reason, decision.numbers
    assert number(r"(?:→|stays at) (\d+) member", text) == decision.to
    assert ("stays at" in text) == (decision.to == decision.current)
    said = {
        "need": number(r"\((\d+) needed", text),
        "want": number(r"would have (\d+)", text),
        "by min": number(r"its min is (\d+)", text),
    }
    assert all(found in (None, numbers[key]) for key, found in said.items())
    if "were needed lately" in text:
        assert max(size for _, size in view.past.wanted) >= decision.to > numbers["need"]


def bounds_hold(decision, group, view) -> None:
    text = decision.reason
    assert number(r"a person has set it to (\d+)", text) == group.pin
    if (most := number(r"its max is (\d+)", text)) is not None:
        assert (most, group.pin) == (group.max, None)
        assert decision.current > group.max
    elif ", its max" in text:
        assert decision.to in (max(0, group.max), decision.current)
    if ", its min" in text:
        assert decision.to == group.min
    if "smallest size" in text:
        assert decision.to == view.observation.least
    if "holds no more than" in text:
        assert decision.to == max(view.observation.most, decision.current)


def members_hold(decision, view) -> None:
    text, rule, detail = decision.reason, decision.rule, view.seen.detail or {}
    running = {m.worker for m in view.observation.members if m.state == "running"}
    staying = [detail[n] for n in (running & detail.keys()) - set(view.standing.draining)]
    for words, count in (
        (r"(\d+) (?:has|have) tasks", sum(m.processing > 0 for m in staying)),
        (r"(\d+) (?:has|have) actors", sum(m.actors > 0 for m in staying)),
        (r"(\d+) (?:is|are) kept", sum(m.needed for m in staying)),
        (r"(\d+) (?:is|are) paused", sum(m.status != "running" for m in staying)),
    ):
        found = number(words, text)
        assert found is None or 0 < found <= count, text
    if rule in ("busy", "actors", "kept", "paused"):
        assert re.search(r"\): \d+ (has|have|is|are) ", text), text
    claims = {
        "pace": lambda: number(r"(\d+) (?:is|are) on their way", text) == view.starting,
        "step-up": lambda: number(r"and (\d+) (?:is|are) ", text) == view.starting,
        "step-down": lambda: number(r"(\d+) are", text) == len(view.standing.draining) > 0,
        "last": lambda: (
            sum(m.status == "running" for m in staying if m.worker not in decision.leave) == 1
        ),
        "memory": lambda: overfull(view),
        "steady": lambda: decision.to == decision.current,
    }
    assert claims.get(rule, lambda: True)(), text


def overfull(view: GroupView) -> bool:
    """Whether the data and what processes need are too much for those who stay."""
    seen = view.seen
    own = max(0, seen.memory - max(0, seen.nbytes - seen.spilled)) / seen.members
    limit = (seen.limit or view.group.memory * seen.members) / seen.members
    return seen.nbytes + own * view.current > FULL * limit * view.current


def test_data_is_compared_with_those_who_stay():
    """One of two is draining: its memory is not there for the data."""
    each = MemberSeen("cpu-0", processing=1), MemberSeen("cpu-1", nbytes=3 * GIB)
    said = group_of(*each, nbytes=3 * GIB, memory=3 * GIB, limit=8 * GIB)
    stands = replace(standing("cpu", 2), draining={"cpu-1": False})
    decision = one(cpu(memory=4 * GIB, max=2), said, stands)
    assert decision.rule == "memory"
    assert "more than 0.6 of the 4 GiB that 1 member may use" in decision.reason


@st.composite
def worlds(draw: st.DrawFn):
    """A group whose members, drains, work and past fit together."""
    size = draw(st.integers(0, 6))
    names = [f"cpu-{index}" for index in range(size)]
    states = [draw(st.sampled_from(["running"] * 5 + ["starting", "leaving"])) for _ in names]
    listed = tuple(Member(n, n, state) for n, state in zip(names, states, strict=True))
    running = [n for n, state in zip(names, states, strict=True) if state == "running"]
    detail = {
        name: MemberSeen(
            name,
            status=draw(st.sampled_from(["running"] * 4 + ["paused", "closing_gracefully"])),
            processing=draw(st.sampled_from([0, 0, 1])),
            actors=draw(st.sampled_from([0, 0, 0, 1])),
            idle=draw(st.sampled_from([0.0, 9e3])),
            nbytes=draw(st.sampled_from([0, 0, GIB, 3 * GIB])),
            needed=draw(st.sampled_from([False, False, True])),
        )
        for name in running
        if draw(st.sampled_from([True, True, True, False]))
    }
    drains = {n: draw(st.booleans()) for n in detail if draw(st.sampled_from([False] * 3 + [True]))}
    parked = [each for each in detail.values() if each.status == "closing_gracefully"]
    data = sum(each.nbytes for each in detail.values())
    members = len(detail) - len(parked)
    found = GroupSeen(
        members,
        sum(each.processing > 0 for each in detail.values()),
        data,
        members * 4 * GIB,
        data,
        0,
        tuple(detail),
        draw(st.sampled_from([detail, detail, detail, None])),
    )
    least = draw(st.integers(0, 3))
    group = cpu(
        min=least,
        max=least + draw(st.integers(0, 6)),
        step_up=draw(st.sampled_from([0.1, 1.0])),
        step_down=draw(st.sampled_from([0.25, 1.0])),
        idle=draw(st.sampled_from([None, 0.0])),
        pin=draw(st.sampled_from([None, None, 0, 1, 3, 9])),
        forced=draw(st.booleans()),
    )
    ready = draw(st.sampled_from([0, 0, 0, 1, 5, 40]))
    known = draw(st.booleans())
    load = Load(ready, 50.0 * ready * known, 0 if known else ready)
    observation = Observation(
        sum(state != "leaving" for state in states) + draw(st.integers(0, 2)),
        listed,
        most=draw(st.sampled_from([None, None, 4])),
        step=draw(st.sampled_from([None, None, 0, 2])),
    )
    stands = Standing(observation, drains, draw(st.sampled_from([0.0, 0.0, NOW + 9])), "no room")
    said = Demand(
        "s",
        draw(st.sampled_from([1.0, 1e6])),
        (Work(queued=load),) if ready else (),
        {"cpu": found} if detail else {},
        draw(st.sampled_from([0, 1])),
    )
    past = draw(st.sampled_from([(), ((0.0, 0),), ((NOW - 8, 6), (NOW - 4, 0))]))
    names = tuple(draw(st.sampled_from([(), names])))
    asked = dict.fromkeys(names, draw(st.sampled_from([NOW - 1, 0.0])))
    own = GroupHistory(wanted=past, names=names, asked=asked, start_ups=(5.0,))
    history = History({"cpu": own}, draw(st.sampled_from(["s", "old"])), draw(st.booleans()), NOW)
    return Rules((group,), draw(st.sampled_from([None, None, 2.0]))), said, {"cpu": stands}, history


@relaxed
@given(worlds())
def test_sentences_are_true_of_the_numbers_beside_them(world):
    rules, said, stands, history = world
    found = decide(rules, said, stands, history, NOW)
    [group] = rules.groups
    past = remembered(history.groups.get(group.name), NOW)
    grew = history.time if past.grown == history.time else None
    view = group_view(group, stands.get(group.name), said, past, NOW, grew)
    holds(found.groups[group.name], group, view)


def test_the_worlds_reach_most_rules():
    """Those that they miss have cases of their own, here and beside this file."""
    reached: Counter[str] = Counter()

    @settings(relaxed, max_examples=250, derandomize=True, database=None)
    @given(worlds())
    def reach(world):
        rules, said, stands, history = world
        found = decide(rules, said, stands, history, NOW)
        reached[found.groups[rules.groups[0].name].rule] += 1

    reach()
    assert len(reached) >= 14, reached


def group_of(*details: MemberSeen, **more) -> Demand:
    names = tuple(each.worker for each in details)
    busy = sum(each.processing > 0 for each in details)
    found = {each.worker: each for each in details}
    return demand(
        groups={"cpu": seen("cpu", len(details), busy, names=names, detail=found, **more)}
    )


def test_a_pinned_group_whose_last_member_has_an_actor_says_so():
    said = group_of(MemberSeen("cpu-0", actors=1, idle=9e3))
    decision = one(cpu(pin=0), said, standing("cpu", 1))
    assert (decision.to, decision.rule) == (1, "actors")
    assert decision.reason == (
        "cpu stays at 1 member (0 needed): 1 has actors; a person has set it to 0"
    )


def test_each_kind_of_member_that_stays_is_counted():
    said = group_of(
        MemberSeen("cpu-0", processing=2),
        MemberSeen("cpu-1", processing=1),
        MemberSeen("cpu-2", actors=1, idle=9e3),
        MemberSeen("cpu-3", needed=True, idle=9e3),
        MemberSeen("cpu-4", status="paused", idle=9e3),
    )
    decision = one(cpu(step_down=1.0), said, standing("cpu", 5))
    assert decision.rule == "busy"
    assert (
        "2 have tasks and 1 has actors and 1 is kept by a shuffle, or by tasks that may run"
        " nowhere else and 1 is paused or parked"
    ) in decision.reason


def test_a_pin_that_the_data_does_not_allow_is_still_named():
    each = {"idle": 9e3, "nbytes": 2 * GIB, "unique": 1, "memory": 2 * GIB}
    said = group_of(
        *(MemberSeen(f"cpu-{i}", **each) for i in range(3)), nbytes=6 * GIB, memory=6 * GIB
    )
    decision = one(cpu(pin=1), said, standing("cpu", 3))
    assert decision.rule in ("data", "pin")
    assert decision.to > 1
    assert "a person has set it to 1" in decision.reason


WANTED = {
    "its min": (cpu(min=5), {}, r"its min is 5"),
    "a pin": (cpu(pin=5), {}, r"a person has set it to 5"),
    "work": (cpu(), {"work": queued(40, 1e5)}, r"40 tasks \(1111 h of work\) would have 40"),
}


@pytest.mark.parametrize("case", WANTED)
def test_who_wants_a_size_that_is_refused_is_named(case):
    group, more, words = WANTED[case]
    said = demand(*filter(None, [more.get("work")]), groups={"cpu": seen("cpu", 1, 1)})
    stands = replace(standing("cpu", 1), blocked=NOW + 60, trouble="no room")
    decision = one(group, said, stands)
    assert decision.rule == "blocked"
    assert re.search(words, decision.reason), decision.reason
