"""`perennial up --wait`, as a container runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.homes import Home, wait_until

pytestmark = pytest.mark.lab


def waiting(home: Home) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "perennial", "up", "--yes", "--wait", "--file", str(home.file)],
        env=home.environment,
        cwd=home.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_it_stays_and_takes_the_cluster_down(home: Home, number: signal.Signals) -> None:
    process = waiting(home)
    wait_until(lambda: home.pid("cpu-0") and home.workers() >= {"cpu-0"}, 120)
    wait_until(lambda: ": waiting;" in _read(process), 120)
    assert process.poll() is None
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "lab is down" in said
    assert not home.pid("scheduler")
    assert not home.pid("supervisord") or not os.path.exists(f"/proc/{home.pid('supervisord')}")


def test_it_ends_with_the_cluster(home: Home) -> None:
    process = waiting(home)
    wait_until(lambda: ": waiting;" in _read(process), 120)
    home.run("down", "--force")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_a_supervisord_that_is_gone_is_an_error(home: Home) -> None:
    process = waiting(home)
    wait_until(lambda: ": waiting;" in _read(process), 120)
    os.kill(home.pid("supervisord"), signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "its supervisord has ended" in said


def _read(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line or process.poll() is None, "it has ended"
    return line


def test_elsewhere_it_is_refused(home: Home) -> None:
    home.file.write_text(
        "name: lab\nplatform: hosts\nhosts: {machines: [127.0.0.1]}\nworkers: {cpu: {count: 1}}\n"
        "environment: {python: /usr/bin/python3}\n"
    )
    said = home.run("up", "--yes", "--wait", "--file", str(home.file), code=1)
    assert "--wait is for the platform local, found hosts" in said
