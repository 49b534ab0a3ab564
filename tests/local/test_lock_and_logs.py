"""The cluster's lock, and logs that are followed across their rotation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.local.health import rotate
from perennial.local.lock import exclusive
from perennial.local.logs import follow, tail

HOLD = (
    "import sys, time; from pathlib import Path; from perennial.local.lock import exclusive\n"
    "with exclusive(Path(sys.argv[1]), print):\n"
    "    print('held', flush=True); time.sleep(float(sys.argv[2]))"
)


def holding(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "held\n"
    return process


def test_the_second_waits_and_says_for_whom(tmp_path: Path) -> None:
    process = holding(tmp_path / "lock", 1.0)
    said: list[str] = []
    with exclusive(tmp_path / "lock", said.append):
        assert process.wait(20) == 0
    assert len(said) == 1
    assert f"process {process.pid}" in said[0]


def test_the_second_gives_up_and_says_who_holds_it(tmp_path: Path) -> None:
    process = holding(tmp_path / "lock", 60.0)
    with (
        pytest.raises(PerennialError, match=f"process {process.pid} .*still holds the lock"),
        exclusive(tmp_path / "lock", print, patience=0.3),
    ):
        pass
    process.kill()
    process.wait()
    with exclusive(tmp_path / "lock", print, patience=5.0):
        pass


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert tail(log, 5) == []
    log.write_text("one\ntwo\nthree\n")
    assert tail(log, 2) == ["two", "three"]
    assert tail(log, 0) == []
    assert tail(log, 50) == ["one", "two", "three"]


def test_follow_across_rotation(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old 1\nold 2\n")
    lines = follow([log, tmp_path / "later.log"], lines=1, interval=0.01)
    assert next(lines) == (log, "old 2")
    with log.open("a") as file:
        file.write("new 1\nhalf")
        file.flush()
        assert next(lines) == (log, "new 1")
        file.write(" a line\n")
    assert next(lines) == (log, "half a line")
    # Rotated between two looks, as it happens: the follower must see the file shrink.
    rotate(str(tmp_path), maxbytes=1, backups=1)
    time.sleep(0.01)
    (tmp_path / "later.log").write_text("here\n")
    assert next(lines) == (tmp_path / "later.log", "here")
    with log.open("a") as file:
        file.write("after\n")
    assert next(lines) == (log, "after")


def test_the_folders_above_a_lock_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with exclusive(tmp_path / "perennial" / "lab" / "lock", lambda _text: None):
            pass
    finally:
        os.umask(before)
    for folder in (tmp_path / "perennial", tmp_path / "perennial" / "lab"):
        assert folder.stat().st_mode & 0o777 == 0o700
