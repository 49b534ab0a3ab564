"""What is said to be wrong is what is wrong now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from perennial.errors import NoCapacity, PerennialError
from perennial.platforms.memory import MemoryFleet
from perennial.scaler import explaining, scaler_client
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.scaler_client import Report
from perennial.scaler.timing import SILENCE
from tests.scaler import feeder


def test_a_scaler_that_is_silent_says_nothing_of_the_work_of_now() -> None:
    latest = {"infeasible": ["60 tasks need FPGA: 1; no group has it"], "trouble": "a disk is full"}
    assert Report(latest, 1.0).wrong == (*latest["infeasible"], "a disk is full")
    [silence] = Report(latest, SILENCE + 1).wrong
    assert silence.startswith("the scaler has not answered for")


async def _refused() -> None:
    now = [0.0]
    memory = MemoryFleet("cpu")
    fleet = FleetClient("cpu", lambda: memory, lambda: now[0])
    memory.faults["resize"].append(NoCapacity("cpu: no room"))
    assert await fleet.resize(3) is None
    assert fleet.said == "cpu: no room"
    fleet.content()  # whoever wanted it has gone
    assert fleet.said == ""
    assert not fleet.free, "the pause goes on"


def test_what_a_platform_has_refused_is_no_trouble_once_nobody_wants_it() -> None:
    asyncio.run(_refused())


def _answer() -> dict[str, Any]:
    """What a scheduler says of a scaler that has reported twice."""
    known = feeder.record(pin=3, numbers={"want": 2.5}, leave=["cpu-1"], infeasible=["a", "b"])
    fields = list(known)
    latest = {
        "time": known["time"],
        "groups": {"cpu": known},
        "fixed": ["gpu"],
        "wishes": {"paused": False, "pins": {"cpu": {"size": 3}}},
        "infeasible": [{"text": "60 tasks need FPGA: 1"}],
        "trouble": "",
    }
    values = [known[name] for name in fields]
    return {"fields": fields, "records": {"cpu": [values, values]}, "report": latest, "age": 1.0}


class _Told:
    """A scheduler whose answer somebody has changed."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def perennial_report(self) -> Any:
        return self.answer


def _places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Where something stands in an answer."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(each, *path, key)


def _changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path:
        return to
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(copy[path[0]], path[1:], to)
    return copy


WRONG = [None, 7, -1.5, float("inf"), float("nan"), "x", "\x1b]0;", [], [[]], {}, {"a": {}}, True]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_an_answer_of_another_form_is_one_line(wrong: Any) -> None:
    whole, refused = _answer(), 0
    assert asyncio.run(scaler_client.report(_Told(whole))).pins == {"cpu": 3}
    for path in _places(whole):
        changed = _changed(whole, path, wrong)
        try:
            found = asyncio.run(scaler_client.report(_Told(changed)))
        except PerennialError:
            refused += 1
            continue
        # What is let in can be said.
        for record in found.groups.values():
            assert explaining.line(record)
            assert explaining.explain(record, 1e9, {})
        _ = found.wrong, found.pins, found.fixed, found.paused
    assert refused, "nothing was refused"
