"""A cluster that an earlier version has started, and that this one takes over.

``earlier/`` holds what a version wrote whose services still had their working folder on
``sys.path``: its units, its configuration and its state, with marks for what is of a machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import perennial
from perennial import authority
from perennial.platforms.local.deploy import open_files
from perennial.platforms.local.layout import interpreter
from tests.homes import Home, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.smoke]

EARLIER = Path(__file__).with_name("earlier")


def _start_earlier(home: Home) -> None:
    """Write what the earlier version wrote, and start its supervisord as it did."""
    marks = {
        "@ROOT@": str(home.state),
        "@HOME@": str(home.root),
        "@PACKAGE@": str(Path(perennial.__file__).parent),
        "@PYTHON@": interpreter(),
        "@PORT@": str(home.spec["scheduler"]["port"]),
        "@DASHBOARD@": str(home.spec["scheduler"]["dashboard_port"]),
        "@OPEN_FILES@": str(open_files()),
    }
    for folder in ("", "conf.d", "config", "logs", "run", "scratch", "tls"):
        (home.state / folder).mkdir(parents=True, mode=0o700)
    home.state.parent.chmod(0o700)
    for path in (each for each in EARLIER.rglob("*") if each.is_file()):
        text = path.read_text()
        for mark, value in marks.items():
            text = text.replace(mark, value)
        (home.state / path.relative_to(EARLIER)).write_text(text)
    home.file.write_text((home.state / "cluster.yaml").read_text())
    authority.ensure(home.state / "tls", "lab", ("127.0.0.1",))
    conf = str(home.state / "supervisord.conf")
    subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", conf],
        env={"HOME": str(home.root), "PATH": home.environment["PATH"], "PYTHONUTF8": "1"},
        cwd="/",
        umask=0o077,
        check=True,
    )
    wait_until(lambda: home.workers() == {"cpu-0"}, 120)


@pytest.mark.timeout(480)
def test_the_plan_says_what_an_upgrade_restarts_and_up_does_it(home: Home) -> None:
    _start_earlier(home)
    with home.client() as client:
        client.publish_dataset(kept=client.submit(sum, [1, 2]))
        assert client.get_dataset("kept").result(60) == 3
    before = {name: home.pid(name) for name in ("supervisord", "scheduler", "cpu-0")}

    *planned, total = home.run("plan", "-f", str(home.file)).splitlines()
    assert [line.split()[1:3] for line in planned] == [
        ["update", "supervisord"],
        ["restart", "health"],
        ["restart", "scheduler"],
        ["restart", "cpu-0"],
    ]
    assert "is not as this version writes it" in planned[0]
    assert planned[2].endswith("ALL RUNNING WORK AND RESULTS ARE LOST")
    assert total == "lab: 4 to change, 0 unchanged"
    assert before == {name: home.pid(name) for name in before}  # a plan changes nothing

    assert "lab is up with 1 worker: 4 changed" in home.up()
    assert home.pid("supervisord") == before["supervisord"]
    assert home.pid("scheduler") != before["scheduler"]
    assert home.workers() == {"cpu-0"}
    with home.client() as client:
        assert client.list_datasets() == ()  # as the plan has said
        assert client.submit(sum, [3, 4]).result(60) == 7
    assert home.run("plan", "-f", str(home.file)) == "lab: nothing to change\n"
    home.run("down", "--force")
    assert home.processes() == []
