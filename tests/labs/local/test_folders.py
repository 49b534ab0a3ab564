"""The folders of a standing cluster: whose they are, and what becomes of what is in them."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.homes import Home, wait_until

pytestmark = pytest.mark.lab


def test_a_cluster_outlives_what_tasks_write_and_what_cleaners_remove(home: Home) -> None:
    def write_relative() -> str:  # one of the files is named like a module
        Path("secrets.py").write_text("TOKEN = 'mine'\n")
        Path("yaml.py").write_text("raise SystemExit('not this one')\n")
        Path("result.csv").write_text("1,2\n")
        return str(Path("result.csv").resolve())

    before = os.umask(0)
    try:
        home.up()
    finally:
        os.umask(before)
    for folder in (home.root / "s").rglob("*"):
        if folder.is_dir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    work = home.state / "work"
    with home.client() as client:
        assert client.submit(write_relative, pure=False).result() == str(work / "result.csv")
        found = client.run(lambda: (os.getcwd(), __import__("sys").path))
        for folder, path in found.values():
            assert folder == str(work)
            assert not {"", str(work)} & set(path)
    shutil.rmtree(home.state / "scratch")
    victim = home.pid("cpu-0")
    os.kill(victim, 9)
    wait_until(lambda: home.pid("cpu-0") not in (0, victim))
    wait_until(lambda: home.workers() == {"cpu-0"})
    shutil.rmtree(home.state / "scratch")
    home.run("restart", "scheduler", "--force")
    assert home.workers() == {"cpu-0"}
    said = home.run("down", "--force")
    assert f"files that tasks wrote by relative paths stay in {work}; --purge removes them" in said
    assert (work / "result.csv").read_text() == "1,2\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_a_scratch_folder_that_another_user_has_made_first_is_refused(home: Home) -> None:
    disk = home.root / "disk"
    disk.mkdir()
    disk.chmod(0o1777)
    home.spec["local"] = {"temporary_directory": str(disk)}
    home.write()
    planted = disk / "perennial-lab"
    planted.mkdir()
    (planted / "yaml.py").write_text("open('/dev/null')")
    os.chown(planted, 12346, 12346)
    for words in (("check", str(home.file)), ("up", "--yes", "--file", str(home.file))):
        process = home.start(*words)
        said, _ = process.communicate(timeout=100)
        assert process.returncode != 0, said
        assert f"{planted}: belongs to user 12346, not to user 0; allowed: a folder" in said
    assert not home.processes()
