"""What a scaler remembers: one at a time, through kills, damage and clocks that jump."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from perennial.errors import PerennialError
from perennial.scaler import boot as boots
from perennial.scaler import intents as log
from perennial.scaler.intents import Intents
from perennial.scaler.life import State
from perennial.scaler.members import Intent
from perennial.scaler.overrides import Overrides
from perennial.scaler.state import SavedState, lock
from perennial.scaler.values import Group, GroupHistory, History

HOLDER = """
import sys
from pathlib import Path
from perennial.scaler.state import lock
with lock(Path(sys.argv[1]), "lab"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_scaler_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(PerennialError) as caught, lock(tmp_path, "lab"):
            pass
        message = str(caught.value)
        assert f"process {other.pid} on " in message
        assert len(message.splitlines()) == 1
        other.kill()
        other.wait(30)
        with lock(tmp_path, "lab"):  # nobody has to clean up after a kill
            assert f"process {os.getpid()} on " in (tmp_path / "lock").read_text()


def test_everything_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with lock(folder, "lab"):
        SavedState(folder).save(History())
        Intents(folder).begin([Intent("cpu", "cpu-0", "drain", 1.0)])
        Overrides(folder).take([{"id": "1", "kind": "pause"}], frozenset(), 0.0)
        modes = {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_clock_goes_on_where_it_stopped(tmp_path: Path) -> None:
    memory = SavedState(tmp_path)
    history = History(
        groups={
            "cpu": GroupHistory(
                asked={"cpu-3": 12.5}, start_ups=(3.0, 4.0), wanted=((1.0, 2),), grown=7.0
            )
        },
        scheduler="Scheduler-1",
        settled=True,
    )
    memory.save(history)
    before = memory.clock()
    again = SavedState(tmp_path)
    assert again.note == ""
    assert again.history == history
    assert before <= again.clock() < before + 30


@pytest.mark.parametrize("jump", [-1e6, 1e6])
@pytest.mark.parametrize("same", [True, False])
def test_a_wall_clock_that_was_set_counts_only_in_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float, same: bool
) -> None:
    memory = SavedState(tmp_path)
    memory.save(History())
    before = memory.clock()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    if not same:
        monkeypatch.setattr(boots, "_BOOT", another_boot(tmp_path))
    passed = SavedState(tmp_path).clock() - before
    expected = jump if jump > 0 and not same else 0.0
    assert expected - 1 <= passed < expected + 30


def another_boot(folder: Path) -> Path:
    path = folder / "boot_id"
    path.write_text("another\n")
    return path


@pytest.mark.parametrize("same", [True, False])
def test_a_drain_has_had_the_time_of_this_boot_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    begun = boots.uptime() - 0.5
    Intents(tmp_path).begin([Intent("cpu", "cpu-0", "drain", 5.0, begun=begun)])
    if not same:
        monkeypatch.setattr(boots, "_BOOT", another_boot(tmp_path))
    for _ in range(2):  # the second one finds what the first one has written
        found = Intents(tmp_path).open["cpu", "cpu-0"]
        assert found.since == 5.0
        assert (abs(found.begun - begun) < 0.1) == same


def test_files_of_before_are_read(tmp_path: Path) -> None:
    line = {"group": "cpu", "member": "cpu-0", "doing": "drain", "since": 5.0}
    (tmp_path / "intents.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "history.json").write_text(json.dumps({"now": 7.0, "wall": time.time()}))
    found = Intents(tmp_path)
    assert found.damaged == 0
    assert boots.uptime() - found.open["cpu", "cpu-0"].begun < 30
    assert 7.0 <= SavedState(tmp_path).clock() < 37.0


def test_what_the_last_release_has_begun_is_taken_over(tmp_path: Path) -> None:
    """Lines as a scaler writes them that had no states."""
    doing = {"cpu-0": "drain", "cpu-1": "remove", "cpu-2": "return"}
    common = {"time": 1.0, "group": "cpu", "since": 5.0, "why": "idle", "boot": "b", "begun": 2.0}
    lines = [{**common, "member": name, "doing": what} for name, what in doing.items()]
    lines += [{**common, "member": "cpu-3", "doing": "drain"}]
    lines += [{"time": 2.0, "group": "cpu", "member": "cpu-3", "doing": "end", "why": "removed"}]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (tmp_path / "intents.jsonl").write_text(text)
    found = Intents(tmp_path)
    assert found.damaged == 0
    assert {name: each.doing for (_, name), each in found.open.items()} == doing
    states = {name: life.state for name, life in found.tracker.lives["cpu"].items()}
    draining = dict.fromkeys(("cpu-0", "cpu-1"), State.PARKING)
    assert states == {**draining, "cpu-2": State.RETURNING}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"history": 3}', '{"history": {"groups": {"cpu": {"asked": 1}}}}', "\0"],
)
def test_a_damaged_memory_is_forgotten_and_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.json").write_text(text)
    memory = SavedState(tmp_path)
    assert "is damaged" in memory.note
    assert len(memory.note.splitlines()) == 1
    assert memory.history == History()
    memory.save(History(scheduler="s"))
    assert SavedState(tmp_path).history.scheduler == "s"


def test_a_memory_of_another_version_is_read(tmp_path: Path) -> None:
    SavedState(tmp_path).save(History(groups={"cpu": GroupHistory(start_ups=(3.0,))}))
    found = json.loads((tmp_path / "history.json").read_text())
    found["history"]["tomorrow"] = 1
    found["history"]["groups"]["cpu"]["tomorrow"] = [1]
    del found["history"]["scheduler"]
    (tmp_path / "history.json").write_text(json.dumps(found))
    assert SavedState(tmp_path).history.groups["cpu"].start_ups == (3.0,)


# Intents


def test_intents_are_on_the_disk_before_anything_is_done(tmp_path: Path) -> None:
    first = Intents(tmp_path)
    first.begin([Intent("cpu", f"cpu-{n}", "drain", 5.0, "idle") for n in range(3)])
    first.begin([Intent("cpu", "cpu-1", "remove", 5.0, "idle")])
    first.end("cpu", ["cpu-0", "cpu-9"], "removed")
    again = Intents(tmp_path)  # and nothing was closed or flushed
    assert again.open == {
        ("cpu", "cpu-1"): Intent("cpu", "cpu-1", "remove", 5.0, "idle"),
        ("cpu", "cpu-2"): Intent("cpu", "cpu-2", "drain", 5.0, "idle"),
    }


def test_a_log_that_is_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    first = Intents(whole)
    first.begin([Intent("cpu", "cpu-0", "drain", 5.0)])
    first.begin([Intent("cpu", "cpu-1", "drain", 5.0, "Grüße")])
    data = (whole / "intents.jsonl").read_bytes()
    line = data.index(b"\n") + 1
    for cut in {*range(0, len(data), 5), line - 1, line, len(data) - 1}:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "intents.jsonl").write_bytes(data[:cut])
        found = Intents(folder)
        # A line without its end is a line all the same, once all of it is there.
        assert len(found.open) == (cut >= line - 1) + (cut >= len(data) - 1)
        assert found.damaged == (cut not in (0, line - 1, line, len(data) - 1))
        found.begin([Intent("cpu", "cpu-2", "drain", 5.0)])
        assert ("cpu", "cpu-2") in Intents(folder).open


@pytest.mark.parametrize("line", ["[]", "3", '{"doing": "dance"}', '{"doing":"drain","group":"a"}'])
def test_nonsense_in_the_log_is_skipped(tmp_path: Path, line: str) -> None:
    (tmp_path / "intents.jsonl").write_text(line + "\n")
    found = Intents(tmp_path)
    assert (found.open, found.damaged) == ({}, 1)


def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SIZE", 2000)
    intents = Intents(tmp_path)
    intents.begin([Intent("cpu", "stays", "drain", 5.0)])
    for number in range(100):
        intents.begin([Intent("cpu", f"cpu-{number}", "drain", 5.0)])
        intents.end("cpu", [f"cpu-{number}"], "removed")
        assert intents.path.stat().st_size < 2500
    assert Intents(tmp_path).open.keys() == {("cpu", "stays")}


def test_what_cannot_be_written_was_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intents = Intents(tmp_path)
    intents.begin([Intent("cpu", "cpu-0", "drain", 5.0)])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        intents.begin([Intent("cpu", "cpu-1", "drain", 5.0)])
    monkeypatch.undo()
    assert intents.open.keys() == Intents(tmp_path).open.keys() == {("cpu", "cpu-0")}


# Wishes


GROUPS = frozenset({"cpu", "gpu"})


def taken(overrides: Overrides, now: float = 0.0, **wish: Any) -> list[str]:
    return overrides.take([{"id": f"{wish}{now}", **wish}], GROUPS, now)


def test_wishes_outlive_the_scaler(tmp_path: Path) -> None:
    overrides = Overrides(tmp_path)
    assert taken(overrides, kind="pin", group="cpu", size=3, seconds=60) == [
        "cpu: pinned at 3 for 60 s"
    ]
    taken(overrides, kind="bounds", group="gpu", min=1, max=2)
    taken(overrides, kind="pause")
    again = Overrides(tmp_path)
    assert again.paused
    assert again.applied(Group("cpu", 0, 8)) == Group("cpu", 0, 8, pin=3)
    assert again.applied(Group("gpu", 0, 8)) == Group("gpu", 1, 2)
    assert again.expire(59.0) == []
    assert again.expire(60.0) == ["cpu: its pin is over"]
    assert Overrides(tmp_path).applied(Group("cpu", 0, 8)) == Group("cpu", 0, 8)


def test_a_pin_ends_although_the_clock_has_begun_anew(tmp_path: Path) -> None:
    group = Group("cpu", max=9)
    overrides = Overrides(tmp_path)
    taken(overrides, 1e7, kind="pin", group="cpu", size=4, seconds=60.0)
    again = Overrides(tmp_path)  # and the memory, with the clock's state, is lost
    assert again.expire(5.0) == []
    assert again.applied(group).pin == 4
    assert again.left("cpu", 5.0) == 60.0
    assert again.expire(70.0) == ["cpu: its pin is over"]
    assert again.applied(group).pin is None


def test_a_wish_that_comes_twice_counts_once(tmp_path: Path) -> None:
    wish = {"id": "a", "kind": "pin", "group": "cpu", "size": 3, "seconds": 60}
    overrides = Overrides(tmp_path)
    assert len(overrides.take([wish], GROUPS, 0.0)) == 1
    assert overrides.take([wish], GROUPS, 50.0) == []
    assert len(Overrides(tmp_path).expire(60.0)) == 1


@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [
        ({"min": 2, "max": None}, 2, 4),
        ({"min": 6, "max": None}, 6, 6),
        ({"min": None, "max": 0}, 0, 0),
        ({"min": None, "max": 9}, 1, 9),
        ({"min": None, "max": None}, 1, 4),
    ],
)
def test_half_of_the_bounds(tmp_path: Path, wish: dict[str, Any], low: int, high: int) -> None:
    overrides = Overrides(tmp_path)
    taken(overrides, kind="bounds", group="cpu", **wish)
    group = overrides.applied(Group("cpu", 1, 4))
    assert (group.min, group.max) == (low, high)
    taken(overrides, 1.0, kind="unbound", group="cpu")
    assert overrides.applied(Group("cpu", 1, 4)) == Group("cpu", 1, 4)


@pytest.mark.parametrize(
    "wish",
    [
        {"kind": "pin", "group": "tpu", "size": 1, "seconds": None},
        {"kind": "pin", "group": "cpu", "size": -1, "seconds": None},
        {"kind": "pin", "group": "cpu", "size": 1, "seconds": float("nan")},
        {"kind": "bounds", "group": "cpu", "min": 3, "max": 1},
        {"kind": "dance", "group": "cpu"},
        {"kind": "pin"},
        {},
    ],
)
def test_nonsense_is_refused_and_said(tmp_path: Path, wish: dict[str, Any]) -> None:
    overrides = Overrides(tmp_path)
    (said,) = taken(overrides, **wish)
    assert said.startswith("refused: ")
    assert overrides.applied(Group("cpu", 0, 4)) == Group("cpu", 0, 4)


def test_a_pin_beyond_max_is_refused_unless_it_is_forced(tmp_path: Path) -> None:
    overrides = Overrides(tmp_path, {"cpu": 4})
    wish = {"id": "1", "kind": "pin", "group": "cpu", "size": 1000, "seconds": 60.0}
    [said] = overrides.take([wish], GROUPS, 0.0)
    assert said.startswith("refused: ")
    assert "cpu=1000: allowed: up to 4 without force" in said
    assert overrides.applied(Group("cpu", 0, 4)).pin is None
    overrides.take([wish | {"id": "2", "force": True}], GROUPS, 0.0)
    forced = Overrides(tmp_path, {"cpu": 4}).applied(Group("cpu", 0, 4))
    assert (forced.pin, forced.forced) == (1000, True)
    # The bounds that a person has set count, too.
    bounds = {"kind": "bounds", "group": "cpu", "min": None, "max": 9}
    overrides.take([bounds | {"id": "3"}, wish | {"id": "4", "size": 9}], GROUPS, 0.0)
    assert overrides.applied(Group("cpu", 0, 4)).pin == 9


def test_a_pin_of_an_earlier_release_is_kept_within_max(tmp_path: Path) -> None:
    wish = {"id": "1", "kind": "pin", "group": "cpu", "size": 1000, "seconds": None}
    Overrides(tmp_path).take([wish], GROUPS, 0.0)
    again = Overrides(tmp_path, {"cpu": 4})
    assert again.note == "cpu: pinned at 1000, above its max: taken as 4"
    assert again.applied(Group("cpu", 0, 4)).pin == 4


def test_damaged_wishes_are_forgotten_and_said(tmp_path: Path) -> None:
    (tmp_path / "wishes.json").write_text('{"pins": 3}')
    assert "are forgotten" in Overrides(tmp_path).note
