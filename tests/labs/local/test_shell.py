"""Nothing of a standing cluster belongs to the shell that started it."""

from __future__ import annotations

import os
import resource
import subprocess

import psutil
import pytest

from perennial.supervision.supervisor import inherited
from tests.homes import PERENNIAL, Home

pytestmark = pytest.mark.lab


def test_what_the_services_get_of_a_shell() -> None:
    homes = {"HOME": "/home/ada", "XDG_STATE_HOME": "/s", "XDG_DATA_DIRS": "/d", "LC_ALL": "C"}
    session = {"TMPDIR": "/job", "XDG_RUNTIME_DIR": "/run/user/1", "XDG_SESSION_ID": "1"}
    assert inherited({**homes, **session}) == homes


def test_the_shell_is_gone_and_the_home_is_long_and_linked(home: Home) -> None:
    # No socket's path may be so long.
    home.environment["XDG_STATE_HOME"] = str(home.root / "real" / ("x" * 110))
    home.state = home.root / "real" / ("x" * 110) / "perennial" / "lab"
    (home.root / "real").mkdir()
    (home.root / "link").symlink_to(home.root / "real")
    job = home.root / "job"
    job.mkdir()
    words = f"ulimit -S -f 400000; ulimit -S -t 7200; exec {PERENNIAL} up --yes -f {home.file}"
    variables = {"TMPDIR": str(job), "XDG_RUNTIME_DIR": str(job)}
    done = subprocess.run(
        ["bash", "-c", words],
        env={**home.environment, **variables},
        cwd=job,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    job.rmdir()
    for name in ("supervisord", "scheduler", "cpu-0"):
        process = psutil.Process(home.pid(name))
        assert not {*variables} & {*process.environ()}
        assert process.cwd() != str(job)
        assert process.terminal() is None
        for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
            assert len(set(resource.prlimit(process.pid, limit))) == 1, name

    # What cannot be read stops nothing.
    broken = home.state / "conf.d" / "broken.conf"
    broken.write_text("[program:broken]\n")
    before = {name: home.pid(name) for name in ("scheduler", "cpu-0")}
    assert "nothing was changed" in home.run("restart", "cpu-0", code=1)
    broken.unlink()
    assert before == {name: home.pid(name) for name in before}

    # The same home under its other name is the same cluster.
    home.environment["XDG_STATE_HOME"] = str(home.root / "link" / ("x" * 110))
    assert "nothing to change" in home.run("plan", "-f", str(home.file))

    home.spec["workers"]["cpu"]["memory"] = "900 MiB"
    home.write()
    home.up()
    assert home.workers() == {"cpu-0"}
    assert home.pid("scheduler") == before["scheduler"]
    os.kill(home.pid("supervisord"), 9)
    home.up()  # adopted, over the same long path
    assert home.pid("scheduler") == before["scheduler"]
    home.run("down", "--force")
    assert not home.processes()
