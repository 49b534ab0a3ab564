"""The cluster's lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.lock import exclusive

HOLD = (
    "import sys, time; from pathlib import Path; from perennial.lock import exclusive\n"
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
        exclusive(tmp_path / "lock", print, timeout=0.3),
    ):
        pass
    process.kill()
    process.wait()
    with exclusive(tmp_path / "lock", print, timeout=5.0):
        pass


def test_the_folders_above_a_lock_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with exclusive(tmp_path / "perennial" / "lab" / "lock", lambda _text: None):
            pass
    finally:
        os.umask(before)
    for folder in (tmp_path / "perennial", tmp_path / "perennial" / "lab"):
        assert folder.stat().st_mode & 0o777 == 0o700
