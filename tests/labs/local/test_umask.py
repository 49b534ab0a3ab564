"""Modes of what tasks and notebooks write, and of what stays its user's alone."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.homes import Home

pytestmark = pytest.mark.lab

#: Folders of ours in the state folder, all of whose files are their user's alone by their own mode.
PRIVATE = ("conf.d", "config", "logs", "run", "secrets", "tls")


def _umask(pid: int) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith("Umask:"))


@pytest.mark.timeout(480)
def test_others_read_what_tasks_write_and_nothing_of_ours(jupyter_home: Home) -> None:
    def write(name: str) -> int:
        """A task; inside, so that it is pickled with its code."""
        Path(name).write_text("x")
        return Path(name).stat().st_mode & 0o777

    home = jupyter_home
    home.spec["workers"]["cpu"]["count"] = 1
    home.spec["umask"] = "000"
    home.write()
    home.up()
    with home.client() as client:
        assert client.submit(write, "shared.csv").result(60) == 0o666
    for name in ("cpu-0", "jupyter"):
        tree = [home.pid(name), *(p.pid for p in psutil.Process(home.pid(name)).children())]
        assert {_umask(pid) for pid in tree} == {"0000"}, name
    for name in ("scheduler", "supervisord"):
        assert _umask(home.pid(name)) == "0077", name
    home.spec["umask"] = "027"
    home.write()
    planned = home.run("plan", "-f", str(home.file))
    assert [line.split()[1:3] for line in planned.splitlines()[:-1]] == [
        ["restart", "cpu-0"],
        ["restart", "jupyter"],
    ]

    folders = [home.state, *map(home.state.joinpath, PRIVATE)]
    assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o700"] * len(folders)
    for path in (each for folder in folders for each in folder.iterdir() if each.is_file()):
        assert path.stat().st_mode & 0o077 == 0, path
    home.run("down", "--force")
