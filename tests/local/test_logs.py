"""The line of a log that tells why its service ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial.local.logs import telling_line

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
    assert telling_line(log) == repr(expected)


def test_a_log_that_says_nothing(tmp_path: Path) -> None:
    assert telling_line(tmp_path / "none.log") == "(no log)"
    (tmp_path / "empty.log").write_text("\n\n")
    assert telling_line(tmp_path / "empty.log") == "(empty log)"
