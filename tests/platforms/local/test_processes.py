"""A user who may start few processes and threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from perennial.platforms.local.doctor import threads
from perennial.platforms.local.processes import LEAST, faults, needed
from perennial.spec import parse
from tests.homes import PERENNIAL
from tests.ports import free_ports

TEXT = """\
name: lab
platform: local
workers: {cpu: {count: 30, threads: 2, memory: 1 GiB}}
jupyter: null
"""
#: A user of no name and of no other process. The interpreter may stand where only root reads.
USER = 47_117
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *(f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")),
)


@pytest.mark.parametrize(
    ("most", "others", "errors", "warnings"),
    [
        (None, 10**6, 0, 0),
        (LEAST - 1, 0, 1, 0),
        (365, 0, 1, 0),
        (366, 0, 0, 0),
        (366, 1, 0, 1),
    ],
)
def test_the_limit_against_what_a_cluster_has(
    most: int | None, others: int, errors: int, warnings: int
) -> None:
    spec = parse(TEXT, "x").spec
    assert needed(spec) == 366
    found = faults(spec, most, others)
    assert (len(found[0]), len(found[1])) == (errors, warnings)
    for fault in (*found[0], *found[1]):
        assert f"a limit of {most} processes and threads" in fault.found
        assert "`nproc` in /etc/security/limits.conf" in fault.fix


def test_the_doctor_warns_before_it_is_reached() -> None:
    assert threads(None, 10**6).level == "ok"
    assert threads(1000, 100).level == "ok"
    assert threads(1000, 950).level == "warning"
    assert "950 of at most 1000" in threads(1000, 950).text


@pytest.fixture
def folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    os.chown(root, USER, USER)
    yield root
    shutil.rmtree(root)


def _up(root: Path, limit: int) -> tuple[int, str]:
    """Run `up` as another user who may have so many processes and threads."""
    scheduler, dashboard = free_ports(2)
    spec = {
        "name": "lab",
        "platform": "local",
        "scheduler": {"port": scheduler, "dashboard_port": dashboard},
        "workers": {"cpu": {"count": 1, "memory": "500 MiB"}},
        "jupyter": None,
    }
    (root / "cluster.yaml").write_text(yaml.safe_dump(spec))
    done = subprocess.run(
        [*AS_USER, "prlimit", f"--nproc={limit}", PERENNIAL, "up", "--yes"],
        cwd=root,
        env={**os.environ, "HOME": str(root), "XDG_STATE_HOME": str(root / "s")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights")
def test_up_names_a_limit_that_is_too_low(folder: Path) -> None:
    code, said = _up(folder, 100)
    assert code == 2, said
    assert "a limit of 100 processes and threads for this user (`ulimit -Hu`)" in said
    assert "without which supervisord does not start" in said
    assert not (folder / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights")
def test_up_says_why_it_starts_nothing_itself(folder: Path) -> None:
    """What `pulumi up` meets, which has not compared the file with the machine."""
    script = (
        "from perennial.cli import said\n"
        "import subprocess, threading, resource\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "for start in (lambda: subprocess.run(['true']), threading.Thread(target=print).start):\n"
        "    try:\n"
        "        start()\n"
        "    except Exception as error:\n"
        "        print(said(error))\n"
    )
    done = subprocess.run(
        [*AS_USER, sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done
    for line in lines:
        assert "no more processes or threads can be started: this user has 1 of at most 1" in line
        assert "raise `nproc` in /etc/security/limits.conf" in line
