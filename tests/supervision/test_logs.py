"""Logs: the line that tells why a service ended, and lines followed across a rotation."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from perennial.supervision.health import rotate
from perennial.supervision.logs import follow, informative_line, tail

DASK = """\
2026-01-01 10:00:00,000 - distributed.nanny - INFO -         Start Nanny at: 'tls://127.0.0.1:1'
Traceback (most recent call last):
  File "nanny.py", line 1, in start
    raise RuntimeError("Nanny failed to start.")
ModuleNotFoundError: No module named 'numpyy'
2026-01-01 10:00:01,000 - distributed.dask_worker - INFO - End worker
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DASK, "ModuleNotFoundError: No module named 'numpyy'"),
        ("a - ERROR - no room\na - INFO - closed\n", "a - ERROR - no room"),
        ("Usage: dask worker\nError: No such option: --x\n\n", "Error: No such option: --x"),
        ("first\nlast\n\n", "last"),
    ],
)
def test_an_errors_line_before_the_last_one(tmp_path: Path, text: str, expected: str) -> None:
    log = tmp_path / "cpu-0.log"
    log.write_text(text)
    assert informative_line(log) == repr(expected)


def test_a_log_that_says_nothing(tmp_path: Path) -> None:
    assert informative_line(tmp_path / "none.log") == "(no log)"
    (tmp_path / "empty.log").write_text("\n\n")
    assert informative_line(tmp_path / "empty.log") == "(empty log)"


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
