"""One home folder, several machines: only the one that runs a cluster touches it."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from perennial import placement
from perennial.connect import Connection
from perennial.errors import PerennialError
from perennial.paths import ClusterPaths, cluster_state
from perennial.supervision import single_instance
from perennial.supervision.supervisor import running
from tests.homes import wait_until


def test_where_a_loopback_address_leads_to_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    paths = cluster_state("lab")
    paths.root.mkdir(parents=True, mode=0o700)
    connection = Connection("lab", "tcp://127.0.0.1:8786")
    placement.require_reach(connection)  # it is down
    now = asdict(placement.here())
    paths.machine.write_text(json.dumps({**now, "host": "b", "boot": "another"}))
    with pytest.raises(PerennialError, match="cluster lab runs on b"):
        placement.require_reach(connection)
    placement.require_reach(replace(connection, scheduler_address="tcp://192.0.2.7:8786"))
    # Another container on this kernel, with the network of the machine itself.
    paths.run.mkdir()
    with (paths.run / "a.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        paths.machine.write_text(json.dumps({**now, "processes": 1}))
        placement.require_reach(connection)
        paths.machine.write_text(json.dumps({**now, "processes": 1, "network": 1}))
        with pytest.raises(PerennialError, match="listens on 127"):
            placement.require_reach(connection)


def test_where_a_cluster_may_run() -> None:
    now = placement.Placement("a", "1", "boot", 1)
    may = placement.may_run_elsewhere
    assert not may(now, now, held=True)
    # The machine was started anew: what ran is gone.
    assert not may(replace(now, boot="earlier", processes=9), now, held=False)
    # It was given another name meanwhile.
    assert not may(replace(now, host="old"), now, held=True)
    # Another container on this kernel: the locks say whether it is still there.
    other = replace(now, processes=2)
    assert may(other, now, held=True)
    assert not may(other, now, held=False)
    # Another machine, also one cloned from the same image: a network may hide its locks.
    for machine in ("1", "2"):
        assert may(placement.Placement("b", machine, "its", 1), now, held=False)


def test_another_machine_whose_locks_nobody_sees(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path / "lab")
    paths.root.mkdir()
    placement.require_here(paths)
    placement.claim(paths)
    placement.require_here(paths)
    record = json.loads(paths.machine.read_text())
    paths.machine.write_text(json.dumps({**record, "host": "b", "boot": "another"}))
    with pytest.raises(PerennialError, match="cluster lab runs on b, which shares this home"):
        placement.require_here(paths)
    paths.machine.write_text("{}")
    with pytest.raises(PerennialError, match="is damaged"):
        placement.require_here(paths)


def test_a_stranger_whose_number_stands_in_a_held_lock_is_never_signalled(tmp_path: Path) -> None:
    """As where a network file system says that somebody on another machine holds the lock."""
    lock = tmp_path / "a.lock"
    stranger = subprocess.Popen(["sleep", "60"])
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "file.write(sys.argv[2] + ' 1\\n'); file.flush(); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock), str(stranger.pid)])
    try:
        wait_until(lambda: lock.exists() and lock.read_text())
        assert placement.is_held(lock)
        assert single_instance.holder(lock) == (0, 1)
        assert not single_instance.signal_holder(lock, signal.SIGKILL)
        lock.write_text(f"{holder.pid} 1\n")
        assert single_instance.holder(lock) == (holder.pid, 1)
        assert single_instance.signal_holder(lock, signal.SIGKILL)
        holder.wait(20)
        assert stranger.poll() is None
        assert not placement.is_held(lock)
    finally:
        for process in (stranger, holder):
            process.kill()
            process.wait()


def test_a_program_that_names_the_configuration_is_no_supervisord(tmp_path: Path) -> None:
    conf = tmp_path / "supervisord.conf"
    conf.touch()
    editor = subprocess.Popen(["tail", "-f", str(conf)])
    try:
        (tmp_path / "supervisord.pid").write_text(str(editor.pid))
        assert running(tmp_path / "supervisor.sock", conf) == 0
    finally:
        editor.kill()
        editor.wait()
