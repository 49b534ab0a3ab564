"""What was stopped runs again, whoever ends the command in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from sys import executable

import pytest

from perennial.supervision.single_instance import holder
from tests.homes import Home, wait_until

pytestmark = pytest.mark.lab


def _cut_off(process: subprocess.Popen[str], after: str) -> None:
    """Kill a command, as a terminal or a kernel does that ends, right after it has said this."""
    assert process.stdout is not None
    for line in process.stdout:
        if after in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_restart_whose_caller_is_killed(standing: Home) -> None:
    before = standing.pid("cpu-0")
    _cut_off(standing.start("restart", "cpu-0"), "stopping cpu-0")
    wait_until(lambda: standing.pid("cpu-0") not in (0, before), 120)
    wait_until(lambda: standing.workers() == {"cpu-0", "cpu-1"}, 120)
    # The lock belongs to who finishes, and is free afterwards.
    assert "nothing to change" in standing.up()


def test_an_up_whose_caller_is_killed(home: Home) -> None:
    home.up()
    before = {name: home.pid(name) for name in ("scheduler", "cpu-0")}
    home.spec["dask"] = {"distributed.scheduler.work-stealing": False}
    home.write()
    process = home.start("up", "--yes", "--file", str(home.file))
    _cut_off(process, "stopping scheduler")
    wait_until(lambda: all(home.pid(n) not in (0, pid) for n, pid in before.items()), 120)
    wait_until(lambda: home.workers() == {"cpu-0"}, 120)
    assert "nothing to change" in home.up()


def test_ctrl_c_ends_once_all_runs_again(standing: Home) -> None:
    before = standing.pid("cpu-0")
    process = standing.start("restart", "cpu")
    assert process.stdout is not None
    while "stopping cpu-0" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert standing.pid("cpu-0") not in (0, before)
    wait_until(lambda: standing.workers() == {"cpu-0", "cpu-1"}, 120)


@pytest.mark.parametrize("wrapper", ["sh", "python"])
def test_an_interpreter_that_is_a_script_without_exec(
    home: Home, wrapper: str, request: pytest.FixtureRequest
) -> None:
    """Its main process ends at the signal, and what it has started does not."""
    # Root runs no interpreter that stands where others may write, such as below /tmp.
    folder = Path(tempfile.mkdtemp(dir=sys.prefix))
    request.addfinalizer(lambda: shutil.rmtree(folder))
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\n{executable} "$@"\n'
        if wrapper == "sh"  # its child has the lock as well; that of this one has nothing
        else f"#!{executable}\nimport subprocess, sys\n"
        f"subprocess.call([{executable!r}, *sys.argv[1:]])\n"
    )
    script.chmod(0o755)
    home.spec["environment"] = {"python": str(script)}
    home.write()
    home.up()
    first = {process.pid for process in home.processes()}
    home.run("restart", "scheduler", "--force")
    assert home.workers() == {"cpu-0"}
    lock = home.state / "run" / "scheduler.lock"
    assert holder(lock)[0] not in first
    home.run("down", "--force")
    assert home.processes() == []
