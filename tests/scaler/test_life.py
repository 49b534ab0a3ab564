"""A member's life: the table, and that nobody is lost on any way through it."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from perennial.observation import Member, Observation
from perennial.scaler.drain_state import Drain
from perennial.scaler.life import SURPRISES, TRANSITIONS, Event, State
from perennial.scaler.members import UNDER_WAY, Doing, Intent, MemberTracker

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "concepts" / "drain.md"
PICTURE = DOCS / "images" / "life.svg"
#: What both truths can say of a member.
SEEN = {Event.ASK, Event.START, Event.REGISTER, Event.LEAVE, Event.VANISH}


def registered(tracker: MemberTracker, *names: str) -> dict[str, str]:
    members = tuple(Member(name, name, "running") for name in names)
    return tracker.observe("cpu", Observation(len(names), members), names)


def test_every_state_has_its_row_and_can_be_left() -> None:
    assert TRANSITIONS.keys() == SURPRISES.keys() == set(State)
    for before in State:
        assert TRANSITIONS[before]
        assert not TRANSITIONS[before].keys() & SURPRISES[before].keys()
        assert before not in {*TRANSITIONS[before].values(), *SURPRISES[before].values()}
    reached = {State.ASKED}
    while more := {after for each in reached for after in TRANSITIONS[each].values()} - reached:
        reached |= more
    assert reached == set(State) - {State.LOST}  # which is found out, and never made


def test_what_is_seen_is_believed() -> None:
    """Each thing that can be seen leads to what it says, or to what the scaler has begun."""
    here = {Event.ASK: State.ASKED, Event.START: State.STARTING, Event.REGISTER: State.RUNNING}
    ends = {Event.LEAVE: State.LEAVING, Event.VANISH: State.GONE}
    for before, event in product(State, SEEN):
        after = (TRANSITIONS[before] | SURPRISES[before]).get(event, before)
        if event in ends:
            assert after == ends[event]
        elif before in UNDER_WAY:
            assert after == before
        elif before in {State.RUNNING, State.LOST} and event is not Event.REGISTER:
            assert after == State.LOST
        else:
            assert after == here[event]


def test_the_page_about_drains_has_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.*) \| ?(.*?) ?\|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(State)
    for name, expected, surprising in rows:
        for table, text in ((TRANSITIONS, expected), (SURPRISES, surprising)):
            steps = (f"{event} → `{after}`" for event, after in table[State(name)].items())
            assert text == ", ".join(steps)


def test_the_picture_of_a_life_is_of_the_table() -> None:
    picture = PICTURE.read_text()
    expected, surprising = picture.split("stroke-dasharray")
    for table, part in ((TRANSITIONS, expected), (SURPRISES, surprising)):
        steps = re.findall(r'data-step="(\w+) (\w+)"', part)
        assert steps
        assert all(State(after) in table[State(before)].values() for before, after in steps)
    assert all(f">{state}</text>" in picture for state in State)


def test_only_a_parked_member_is_given_to_its_platform() -> None:
    assert {each for each in State if Event.REMOVE in TRANSITIONS[each]} == {State.PARKED}
    assert not any(Event.REMOVE in row for row in SURPRISES.values())
    by_us = {State.PARKING, State.PARKED, State.RUNNING, State.RETURNING, State.LOST}
    assert {each for each in by_us if State.LEAVING in TRANSITIONS[each].values()} == {State.PARKED}


def test_a_step_that_the_table_lacks_is_refused() -> None:
    tracker, who = MemberTracker(), ("cpu", "cpu-0")
    registered(tracker, "cpu-0")
    assert not tracker.may(who, Event.REMOVE)
    assert not tracker.may(("cpu", "cpu-9"), Event.DRAIN)
    with pytest.raises(ValueError, match="cpu-0 is running: 'is given to its platform' cannot"):
        tracker.take(who, Event.REMOVE)
    tracker.drain(Drain(*who, 0.0, 60.0))
    assert registered(tracker) == {"cpu-0": "parking → gone"}
    assert [each.state for each in tracker.lives["cpu"].values()] == [State.GONE]
    assert registered(tracker) == {}
    assert tracker.lives == {"cpu": {}}


def test_states_are_found_out_from_both_truths_and_the_log() -> None:
    tracker = MemberTracker()
    begun: dict[str, Doing] = {"parking": "drain", "parked": "drain", "removed": "remove"}
    for name, doing in {**begun, "returning": "return"}.items():
        tracker.restore(Intent("cpu", name, doing, 0.0))  # type: ignore[arg-type]
    tracker.take(("cpu", "parked"), Event.EMPTY)
    registered(tracker, *begun, "returning", "lost", "gone")
    members = [
        *(Member(name, name, "starting") for name in ("asked",)),
        *(Member(name, name, "running") for name in ("starting", "running", "lost")),
        *(Member(name, name, "running") for name in (*begun, "returning")),
        Member("leaving", "leaving", "leaving"),
    ]
    names = {"running", "parking", "parked", "removed", "returning", "leaving"}
    tracker.observe("cpu", Observation(9, tuple(members)), names)
    expected = {name: State(name) for name in ("asked", "starting", "running", "lost", "parking")}
    expected |= {name: State(name) for name in ("parked", "returning", "leaving", "gone")}
    # Nobody knows what has come to it since it was given to its platform: it is drained again.
    expected["removed"] = State.PARKING
    assert {name: each.state for name, each in tracker.lives["cpu"].items()} == expected


def test_what_was_begun_goes_on_with_one_that_stays() -> None:
    tracker = MemberTracker()
    doing: dict[str, Doing] = {"cpu-0": "drain", "cpu-1": "remove", "cpu-2": "return"}
    for name, what in doing.items():
        tracker.restore(Intent("cpu", name, what, 0.0))
    leaving = tuple(Member(name, name, "leaving") for name in (*doing, "cpu-3"))
    tracker.observe("cpu", Observation(0, leaving), ())
    assert {each.state for each in tracker.lives["cpu"].values()} == {State.LEAVING}
    registered(tracker, *doing, "cpu-3")
    states = [each.state for each in tracker.lives["cpu"].values()]
    assert states == [State.PARKING, State.PARKING, State.RETURNING, State.RUNNING]


def test_who_could_not_be_drained_is_left_alone_for_longer_each_time() -> None:
    tracker, who = MemberTracker(), ("cpu", "cpu-0")
    registered(tracker, "cpu-0", "cpu-1")
    pauses = [tracker.leave_alone(who, "a shuffle", 0.0) for _ in range(9)]
    assert pauses == [60.0 * 2**n for n in range(6)] + [3600.0] * 3
    assert tracker.alone("cpu", 3599.0).keys() == {"cpu-0"}
    assert tracker.alone("cpu", 3600.0) == tracker.alone("gpu", 0.0) == {}
    for _ in range(2):
        registered(tracker, "cpu-1")  # it is gone, and another one gets its name:
    registered(tracker, "cpu-0", "cpu-1")
    assert tracker.leave_alone(who, "a shuffle", 0.0) == 60.0
