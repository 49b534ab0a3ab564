"""Records: what is written, what is not, and files that were cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perennial.observation import Member, Observation
from perennial.scaler import history, records
from perennial.scaler.records import Log, files, record
from perennial.scaler.values import (
    Decision,
    Demand,
    Group,
    GroupSeen,
    Load,
    Rules,
    Signature,
    Standing,
    Work,
)

GPU = Signature((("GPU", 1.0),))
RULES = Rules((Group("cpu", 0, 4, slots=2), Group("gpu", 0, 2, resources={"GPU": 1})))
DEMAND = Demand(
    "Scheduler-1",
    work=(
        Work(queued=Load(10, 5.0), processing={"cpu": Load(4, 2.0), "gpu": Load(1, 0.5)}),
        Work(GPU, unrunnable=Load(3, 30.0), processing={"gpu": Load(2, 20.0)}),
        Work(Signature(pinned=True), unrunnable=Load(7)),
    ),
    groups={"cpu": GroupSeen(members=2, busy=1, memory=5, limit=10, names=("cpu-0", "cpu-1"))},
)
STANDING = Standing(
    Observation(3, (Member("0", "cpu-0", "running"), Member("2", "cpu-2", "starting"))),
    draining={"cpu-0": True},
)


def made(time: float = 1000.0, **changes: Any) -> dict[str, Any]:
    decision = Decision(
        "cpu", 3, 4, rule="demand", reason="more", numbers={"want": 1 / 3}, again=2.0
    )
    found = record(decision, STANDING, DEMAND, RULES, time=time, mode="act")
    return {**found, **changes}


def test_a_record_has_the_keys_that_others_read() -> None:
    assert made() == {
        **{"time": 1000.0, "group": "cpu", "seen": 2, "existing": 2, "asked": 3},
        **{"starting": 1, "draining": 1, "current": 3, "queued": 10, "unrunnable": 0},
        **{"processing": 4},
        **{"work": 7.0, "demand": 14, "busy": 1, "memory": 5, "limit": 10, "to": 4},
        **{"pin": None},
        **{"leave": [], "back": [], "rule": "demand", "reason": "more"},
        **{"numbers": {"want": 0.333}, "again": 2.0, "partial": "", "trouble": "", "mode": "act"},
        **{"infeasible": []},
    }


def test_work_counts_for_the_groups_that_can_run_it() -> None:
    decision = Decision("gpu", 0, 1)
    found = record(decision, Standing(None), DEMAND, RULES, time=1.0, mode="act")
    assert (found["queued"], found["unrunnable"], found["processing"]) == (10, 3, 3)
    assert found["demand"] == 16


def test_what_is_not_known_is_none() -> None:
    standing = Standing(None, trouble="no answer")
    found = record(
        Decision("cpu", 3, 3), standing, None, RULES, time=1.0, mode="act", trouble="away"
    )
    assert [found[key] for key in ("seen", "existing", "asked", "starting")] == [None] * 4
    assert found["trouble"] == "no answer; away"
    json.dumps(found, allow_nan=False)


def written(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(x)
        for path in files(folder)
        if path.exists()
        for x in path.read_text().splitlines()
    ]


def test_a_record_that_says_nothing_new_is_written_once_in_a_minute(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for second in range(121):
        log.write([made(1000.0 + second, again=100.0 - second, reason=f"{second}")])
    assert [each["time"] for each in written(tmp_path)] == [1000.0, 1060.0, 1120.0]


def test_figures_are_written_every_ten_seconds_and_events_at_once(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for second in range(30):
        log.write([made(1000.0 + second, queued=second, to=5 if second == 13 else 4)])
    times = [each["time"] - 1000 for each in written(tmp_path)]
    assert times == [0, 10, 13, 14, 24]


def test_a_clock_that_is_set_back_does_not_end_the_records(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write([made(1000.0)])
    log.write([made(500.0)])
    assert len(written(tmp_path)) == 2


def test_files_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    log = Log(tmp_path, size=5000)
    for number in range(100):
        log.write([made(1000.0 + number, to=number)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("records.jsonl", "records.jsonl.1", "records.jsonl.2")
    ]
    assert all(path.stat().st_size <= 5000 for path in tmp_path.iterdir())
    sizes = [each["to"] for each in written(tmp_path)]
    assert sizes == list(range(sizes[0], 100))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert records.SIZE * records.FILES < 64 * 2**20


def test_a_line_that_was_cut_costs_that_line_alone(tmp_path: Path) -> None:
    Log(tmp_path).write([made(1000.0)])
    Log(tmp_path).write([made(1001.0)])
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-100])
    Log(tmp_path).write([made(1002.0)])
    found, notes = history.read(files(tmp_path))
    assert [each["time"] for each in found] == [1000.0, 1002.0]
    assert len(notes) == 1
    assert "1 line is damaged" in notes[0]
