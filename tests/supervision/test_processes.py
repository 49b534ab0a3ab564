"""What ends when no more processes or threads can be started."""

from __future__ import annotations

from pathlib import Path

from perennial.supervision.processes import cause_in, control_groups
from perennial.supervision.waiting import does_not_stay_up


def test_a_log_that_says_so_names_the_limit(tmp_path: Path) -> None:
    log = tmp_path / "cpu-0.log"
    log.write_text("Traceback (most recent call last):\nRuntimeError: can't start new thread\n")
    assert "no more processes or threads can be started" in cause_in(log)
    assert "no more processes or threads can be started" in does_not_stay_up("cpu-0", tmp_path)
    log.write_text("ValueError: another\n")
    assert cause_in(log) == ""
    assert does_not_stay_up("cpu-0", tmp_path).endswith("see `perennial logs cpu-0`")


def test_the_limit_of_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "pids.max").write_text("100\n")
    (tmp_path / "a" / "b" / "pids.max").write_text("max\n")
    assert list(control_groups("0::/a/b\n", tmp_path)) == [(tmp_path / "a", 100)]
