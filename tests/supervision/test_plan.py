"""The plan: pure cases, and properties that hold for every state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.plan import Impact
from perennial.supervision.plan import (
    Change,
    Running,
    plan,
    staying,
    steps,
)

UP = Running(alive=True)

GONE = "no longer in the cluster file"

#: name → desired, disk, running, orphans, expected
CASES = {
    "nothing there": ({"a": "1"}, {}, None, "", [("start", "a", "new")]),
    "unchanged": ({"a": "1"}, {"a": "1"}, {"a": UP}, "", []),
    "new beside others": (
        {"a": "1", "b": "1"},
        {"a": "1"},
        {"a": UP},
        "",
        [("start", "b", "new")],
    ),
    "changed text": ({"a": "2"}, {"a": "1"}, {"a": UP}, "", [("replace", "a", "changed")]),
    "text removed by hand": ({"a": "1"}, {}, {"a": UP}, "", [("replace", "a", "changed")]),
    "cut off after writing": (
        {"a": "2"},
        {"a": "2"},
        {"a": Running(alive=True, stale=True)},
        "",
        [("replace", "a", "changed")],
    ),
    "cut off before adding": ({"a": "1"}, {"a": "1"}, {}, "", [("start", "a", "does not run")]),
    "after a reboot": ({"a": "1"}, {"a": "1"}, None, "", [("start", "a", "does not run")]),
    "supervisord gone": (
        {"a": "1"},
        {"a": "1"},
        None,
        "a",
        [("adopt", "a", "runs without supervisord; it is adopted")],
    ),
    "supervisord gone, text changed": (
        {"a": "2"},
        {"a": "1"},
        None,
        "a",
        [("replace", "a", "changed")],
    ),
    "given up": (
        {"a": "1"},
        {"a": "1"},
        {"a": Running(alive=False, state="FATAL")},
        "",
        [("restart", "a", "is FATAL")],
    ),
    "no longer asked for": ({}, {"a": "1"}, {"a": UP}, "", [("stop", "a", GONE)]),
    "cut off before removing the file": ({}, {"a": "1"}, {}, "", [("stop", "a", GONE)]),
    "cut off before stopping": ({}, {}, {"a": UP}, "", [("stop", "a", GONE)]),
    "orphan no longer asked for": ({}, {"a": "1"}, None, "a", [("stop", "a", GONE)]),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    desired, disk, now, orphans, expected = CASES[name]
    assert plan(desired, disk, now, orphans) == tuple(Change(*step) for step in expected)


names = st.sampled_from("abcde")
texts = st.dictionaries(names, st.sampled_from("12"))
running = st.none() | st.dictionaries(
    names, st.builds(Running, alive=st.booleans(), stale=st.booleans(), state=st.just("FATAL"))
)


@given(texts, texts, running)
def test_each_program_has_at_most_one_step_and_the_rest_is_as_asked(desired, disk, now) -> None:
    steps = plan(desired, disk, now)
    touched = [step.name for step in steps]
    assert len(touched) == len(set(touched))
    for name in set(desired) | set(disk) | set(now or {}):
        if name not in touched:
            assert desired[name] == disk[name]
            assert now is not None
            assert now[name].alive
            assert not now[name].stale


@given(texts)
def test_what_runs_as_asked_needs_no_step(desired) -> None:
    assert plan(desired, desired, dict.fromkeys(desired, UP)) == ()


def test_who_was_told_to_leave_is_no_part_of_a_plan() -> None:
    leaving = Running(alive=True, state="STOPPING")
    left = Running(alive=False, state="STOPPED")
    assert staying({"a": UP, "b": leaving, "c": left}, ["a"], ["a"]) == {"a": UP}
    assert staying({"a": left, "b": leaving}, ["a", "b"], []) == {"a": left, "b": leaving}
    # Cut off before it was told, and one whose name is asked for again.
    assert staying({"a": UP, "b": leaving, "c": left}, [], ["b", "c"]) == {"a": UP, "b": leaving}


def test_a_crash_loop_is_no_running_program() -> None:
    waits = Running(alive=True, state="BACKOFF")
    found = plan({"a": "text"}, {"a": "text"}, {"a": waits})
    assert found == (Change("restart", "a", "is BACKOFF"),)


def test_what_a_change_costs() -> None:
    """Members are drained, but for nothing where the scheduler stops as well."""
    member = Change("replace", "cpu-0", "changed")
    jupyter = Change("stop", "jupyter", GONE)
    scheduler = Change("replace", "scheduler", "changed")
    assert [(step.action, step.impact) for step in steps([member, jupyter])] == [
        ("restart", Impact.DRAINED),
        ("delete", Impact.KERNELS),
    ]
    assert [step.impact for step in steps([member, scheduler])] == [Impact.NONE, Impact.LOSES_WORK]
    for action in ("start", "adopt", "restart", "repair"):
        [step] = steps([Change(action, "scheduler", "")])
        assert step.impact is Impact.NONE
