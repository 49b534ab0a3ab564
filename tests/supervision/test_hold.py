"""`hold`: a program runs at most once, and outlives the supervisord that started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perennial.supervision import single_instance

#: Says that it runs, and leaves cleanly on SIGTERM.
PROGRAM = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit('ended'));"
    "print('running', flush=True); time.sleep(60)"
)


def start(folder: Path, *program: str, options: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    held = [sys.executable, "-I", "-S", single_instance.__file__, *options]
    files = [str(folder / "a.lock"), str(folder / "a.log")]
    command = program or (sys.executable, "-c", PROGRAM)
    return subprocess.Popen([*held, *files, *command], start_new_session=True)


def wait_for(condition, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def log(folder: Path) -> str:
    return (folder / "a.log").read_text() if (folder / "a.log").exists() else ""


def test_the_lock_names_the_program_itself_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    assert single_instance.holder(lock) == (0, 0)
    process = start(tmp_path)
    wait_for(lambda: "running" in log(tmp_path))
    # exec: the program is the very process that was started, and nothing stands between.
    assert single_instance.holder(lock) == (process.pid, 1)
    process.kill()
    process.wait()
    assert single_instance.holder(lock) == (0, 1)


def test_starts_are_counted_and_forgotten(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    for number in (1, 2, 3):
        assert start(tmp_path, "/bin/true").wait(20) == 0
        assert single_instance.holder(lock) == (0, number)
    single_instance.forget(lock)
    assert single_instance.holder(lock) == (0, 0)


def test_forget_leaves_a_running_program_alone(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for(lambda: "running" in log(tmp_path))
    single_instance.forget(tmp_path / "a.lock")
    assert single_instance.holder(tmp_path / "a.lock") == (process.pid, 1)
    process.kill()
    process.wait()


def test_a_second_start_stands_in_and_passes_the_signal_on(tmp_path: Path) -> None:
    first = start(tmp_path)
    wait_for(lambda: "running" in log(tmp_path))
    second = start(tmp_path)
    wait_for(lambda: f"adopted process {first.pid}" in log(tmp_path))
    assert log(tmp_path).count("running") == 1
    second.send_signal(signal.SIGTERM)
    assert first.wait(20) == 1
    assert second.wait(20) == 1
    assert "ended" in log(tmp_path)


def test_a_stand_in_leaves_when_the_program_dies(tmp_path: Path) -> None:
    first = start(tmp_path)
    wait_for(lambda: "running" in log(tmp_path))
    second = start(tmp_path)
    wait_for(lambda: "adopted" in log(tmp_path))
    first.kill()
    first.wait()
    assert second.wait(20) == 1
    assert single_instance.holder(tmp_path / "a.lock")[0] == 0


def test_many_starts_at_once_run_one_program(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(6)]
    wait_for(lambda: log(tmp_path).count("adopted") == 5 and "running" in log(tmp_path))
    assert log(tmp_path).count("running") == 1
    pid, starts = single_instance.holder(tmp_path / "a.lock")
    assert pid in [process.pid for process in processes]
    assert starts == 1
    os.kill(pid, signal.SIGKILL)
    for process in processes:
        process.wait(20)


def test_children_of_the_program_do_not_keep_the_lock(tmp_path: Path) -> None:
    child = (
        "import subprocess, sys; subprocess.Popen(['sleep', '30']); print('running', flush=True)"
    )
    assert start(tmp_path, sys.executable, "-c", child).wait(20) == 0
    assert single_instance.holder(tmp_path / "a.lock") == (0, 1)
    # Nothing of ours may be left: the sleep is in the session that `start` made.
    subprocess.run(["pkill", "-f", "-x", "sleep 30"], check=False)


def test_a_lock_file_that_says_nothing_sensible(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text("garbage")
    assert single_instance.holder(lock) == (0, 0)
    assert start(tmp_path, "/bin/true").wait(20) == 0
    assert single_instance.holder(lock) == (0, 1)


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    assert start(tmp_path, "/nonexistent").wait(20) != 0
    assert "FileNotFoundError" in log(tmp_path)


def test_what_a_start_needs_is_made_at_that_start(tmp_path: Path) -> None:
    spill, work = tmp_path / "scratch" / "spill", tmp_path / "work"
    options = (single_instance.FOLDER, str(spill), single_instance.DIRECTORY, str(work))
    for _ in range(2):
        assert start(tmp_path / "run", "/bin/pwd", options=options).wait(20) == 0
        assert spill.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(tmp_path / "scratch")
        work.rmdir()  # as a cleaner does
    assert log(tmp_path / "run").splitlines() == [str(work)] * 2


def test_a_folder_that_others_can_change_is_refused(tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    spill.chmod(0o777)
    assert (
        start(tmp_path, "/bin/echo", "ran", options=(single_instance.FOLDER, str(spill))).wait(20)
        == 1
    )
    assert log(tmp_path) == (f"perennial: {spill}: others may write to it (mode 0777); remove it\n")
    # Where the program shall merely work, its user may share the folder.
    assert (
        start(tmp_path, "/bin/echo", "ran", options=(single_instance.DIRECTORY, str(spill))).wait(
            20
        )
        == 0
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    spill, link = tmp_path / "spill", tmp_path / "link"
    spill.mkdir(0o700)
    link.symlink_to(spill)
    os.chown(link, 12346, 12346, follow_symlinks=False)
    for folder, owner in ((link, 12346), (spill, 12345)):
        os.chown(spill, 12345 if folder == spill else 0, 0)
        assert (
            start(tmp_path, "/bin/true", options=(single_instance.FOLDER, str(folder))).wait(20)
            == 1
        )
        assert f"{folder}: belongs to user {owner}, not to user 0" in log(tmp_path)
