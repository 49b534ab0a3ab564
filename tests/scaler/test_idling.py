"""A long time without work, in virtual time: nothing is done, and nothing grows."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from perennial.scaler import records, timing
from perennial.scaler.records import Log, record
from perennial.scaler.values import Group
from tests.scaler.toy import Toy

HOUR, DAY = 3_600.0, 86_400.0
#: Bytes of a file, smaller than usual, so that files are rotated in the test.
SIZE = 2**17


@pytest.mark.parametrize(
    "days",
    [
        pytest.param(0.25, marks=pytest.mark.timeout(600)),
        pytest.param(7, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
@pytest.mark.parametrize("held", [False, True], ids=["alone", "with a pin"])
def test_nothing_is_done_and_nothing_grows(tmp_path: Path, days: float, held: bool) -> None:
    pin = 2 if held else None
    groups = (Group("cpu", min=1, max=8, slots=2), Group("big", max=5, cost=3.0, pin=pin))
    toy, log = Toy(groups), Log(tmp_path, SIZE)
    toy.backlog = [30.0] * 50
    sizes: list[int] = []
    written = 0
    while toy.now < days * DAY + HOUR:
        decisions = toy.tick()
        standings, demand = toy.standings(), toy.demand()
        rows = [
            record(each, standings[name], demand, toy.rules, time=1e9 + toy.now, mode="act")
            for name, each in decisions.groups.items()
        ]
        before = sum(path.stat().st_size for path in tmp_path.iterdir())
        log.write(rows)
        written += sum(path.stat().st_size for path in tmp_path.iterdir()) != before
        if toy.now < HOUR:
            written = 0
            continue
        for each in decisions.groups.values():
            assert (each.to, each.leave, each.back) == (each.current, (), ())
        if toy.now % HOUR < toy.interval:
            sizes.append(len(pickle.dumps(toy.history)))
    assert [toy.size(group.name) for group in groups] == [1, pin or 0]
    # Numbers take a few bytes more or less as time goes on.
    assert max(sizes) - min(sizes) < 200
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in records.files(tmp_path)}
    assert all(path.stat().st_size <= SIZE for path in tmp_path.iterdir())
    # What says nothing new is written once a minute for each group.
    assert written <= len(groups) * (days * DAY / timing.SAME_AGAIN + 10)
