"""When a service that ends again and again is an error. Pure."""

from __future__ import annotations

from perennial.supervision.supervisor import Process
from perennial.supervision.waiting import RUNS, UNSTEADY, Steadiness


def process(state: str, started: float = 0.0) -> Process:
    return Process("cpu-0", state, 7 if state == "RUNNING" else 0, started, "")


def test_one_that_ends_at_once_has_a_while() -> None:
    seen = Steadiness()
    assert not seen.keeps_ending(process("BACKOFF"), 1.0)
    assert not seen.keeps_ending(process("STARTING"), 2.0)
    assert not seen.keeps_ending(process("BACKOFF"), 1.0 + UNSTEADY)
    assert seen.keeps_ending(process("BACKOFF"), 1.1 + UNSTEADY)


def test_one_that_runs_for_long_is_steady() -> None:
    seen = Steadiness()
    assert not seen.keeps_ending(process("BACKOFF"), 0.0)
    assert not any(seen.keeps_ending(process("RUNNING", 3.0), now) for now in range(3, 180))
    assert not seen.keeps_ending(process("BACKOFF"), 180.0), "it is seen for the first time"


def test_one_that_runs_for_some_seconds_and_ends_has_a_few_runs() -> None:
    seen = Steadiness()
    for run in range(RUNS):
        began = 7.0 * run
        assert not seen.keeps_ending(process("STARTING", began), began)
        assert not seen.keeps_ending(process("RUNNING", began), began + 5)
        assert not seen.keeps_ending(process("RUNNING", began), began + 6)
        assert not seen.keeps_ending(process("EXITED", began), began + 6.5)
    assert seen.keeps_ending(process("RUNNING", 7.0 * RUNS), 7.0 * RUNS + 5)
