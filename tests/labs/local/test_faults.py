"""Each process of a cluster is killed for real, and what comes back is asserted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress

import psutil
import pytest

from perennial.supervision.supervisor import speaks_http
from tests.dask_processes import workers_of
from tests.homes import PERENNIAL, Home, wait_until
from tests.ports import free_ports

pytestmark = pytest.mark.lab

#: Seconds in which all workers are registered again after the scheduler was killed.
RECOVERY = 10.0


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.smoke
@pytest.mark.quiet
def test_scheduler_killed(standing: Home) -> None:
    with standing.client() as client:
        future = client.submit(sum, [1, 2])
        assert future.result() == 3
        before = standing.pid("scheduler")
        start = time.monotonic()
        kill(before)
        wait_until(lambda: standing.pid("scheduler") not in (0, before))
        wait_until(lambda: standing.workers() == {"cpu-0", "cpu-1"})
        assert time.monotonic() - start <= RECOVERY
        # The client reconnects by itself; its old work is gone, new work runs.
        wait_until(lambda: future.status in ("cancelled", "lost"))
        assert client.submit(sum, [2, 3], pure=False).result(timeout=30) == 5
    rows = json.loads(standing.run("status", "--json"))["services"]
    assert {row["restarts"] for row in rows if row["service"] == "scheduler"} == {1}


def test_nanny_killed(standing: Home) -> None:
    with standing.client() as client:
        future = client.submit(pow, 2, 10, workers="cpu-0", allow_other_workers=True)
        assert future.result() == 1024
        before = standing.pid("cpu-0")
        orphans = children(before)
        kill(before)
        wait_until(lambda: standing.pid("cpu-0") not in (0, before))
        wait_until(lambda: standing.workers() == {"cpu-0", "cpu-1"})
        assert future.result() == 1024
        wait_until(lambda: not any(child.is_running() for child in orphans))


def test_worker_process_killed(standing: Home) -> None:
    nanny = standing.pid("cpu-1")
    worker = max(children(nanny), key=lambda process: process.memory_info().rss)
    kill(worker.pid)
    wait_until(lambda: not worker.is_running())
    wait_until(lambda: standing.workers() == {"cpu-0", "cpu-1"})
    # The nanny itself sees to it; supervisord has nothing to do.
    assert standing.pid("cpu-1") == nanny


@pytest.mark.smoke
def test_supervisord_killed_and_nobody_loses_anything(standing: Home) -> None:
    with standing.client() as client:
        scattered = client.scatter(list(range(20)))
        slow = client.submit(time.sleep, 8, pure=False)
        services = ("scheduler", "cpu-0", "cpu-1")
        before = {name: standing.pid(name) for name in services}
        kill(standing.pid("supervisord"))
        wait_until(lambda: not psutil.pid_exists(standing.pid("supervisord")))
        assert "ORPHAN" in standing.run("status")
        plan = standing.run("plan", "--file", str(standing.file))
        assert plan.count("adopt") == 3
        standing.up()
        assert before == {name: standing.pid(name) for name in services}
        assert client.gather(scattered) == list(range(20))
        slow.result(timeout=60)
    assert "nothing to change" in standing.up()
    schedulers = [
        p
        for p in standing.processes()
        if "scheduler" in p.cmdline() and "dask" in " ".join(p.cmdline())
    ]
    running = [p for p in schedulers if not any("hold.py" in word for word in p.cmdline())]
    assert [p.pid for p in running] == [before["scheduler"]]


def test_an_adopted_service_is_still_kept_and_can_be_stopped(standing: Home) -> None:
    kill(standing.pid("supervisord"))
    standing.up()
    adopted = standing.pid("cpu-0")
    kill(adopted)
    wait_until(lambda: standing.pid("cpu-0") not in (0, adopted))
    wait_until(lambda: standing.workers() == {"cpu-0", "cpu-1"})
    # A drain reaches it through the process that stands in for it.
    with standing.client() as client:
        scattered = client.scatter(list(range(20)))
        standing.run("restart", "cpu-1")
        assert client.gather(scattered) == list(range(20))
    assert standing.workers() == {"cpu-0", "cpu-1"}


def test_supervisord_killed_and_the_file_changed(standing: Home) -> None:
    kill(standing.pid("supervisord"))
    before = standing.pid("scheduler")
    standing.spec["workers"]["cpu"]["memory"] = "900 MiB"
    standing.write()
    standing.up()
    assert standing.pid("scheduler") == before
    assert standing.workers() == {"cpu-0", "cpu-1"}
    with standing.client() as client:
        limits = {w["memory_limit"] for w in workers_of(client).values()}
    assert limits == {900 * 2**20}
    standing.spec["workers"]["cpu"]["memory"] = "1 GiB"
    standing.write()
    standing.up()


@pytest.mark.lab  # it waits some times for as long as supervisord may take to answer
@pytest.mark.timeout(400)
def test_a_hung_supervisord_is_ended(home: Home) -> None:
    home.up()
    before = {name: home.pid(name) for name in ("scheduler", "cpu-0")}
    hung = home.pid("supervisord")
    os.kill(hung, signal.SIGSTOP)
    assert f"supervisord (pid {hung}) does not answer; ending it" in home.up()
    assert home.pid("supervisord") != hung
    assert before == {name: home.pid(name) for name in before}  # all else lives on
    os.kill(home.pid("supervisord"), signal.SIGSTOP)
    home.run("down", "--force")
    assert home.processes() == []


def test_health_listener_killed(standing: Home) -> None:
    def listeners() -> list[int]:
        found = []
        for process in standing.processes():
            with suppress(psutil.NoSuchProcess):  # gone since it was listed
                if "perennial.local.health" in process.cmdline():
                    found.append(process.pid)
        return found

    (before,) = listeners()
    kill(before)
    wait_until(lambda: listeners() not in ([], [before]))


def test_a_hung_scheduler_is_restarted(home: Home) -> None:
    home.spec["scheduler"]["watchdog"] = "6 s"
    home.write()
    home.up()
    before = home.pid("scheduler")
    wait_until(lambda: "RUNNING" in home.run("status"))
    time.sleep(6)  # seen well once, by the listener that looks every five seconds
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: home.pid("scheduler") not in (0, before), timeout=90)
    wait_until(lambda: home.workers() == {"cpu-0"})
    assert "has not answered" in home.run("logs", "health")


@pytest.mark.smoke
def test_everything_gone_as_after_a_reboot_and_down_without_a_supervisord(home: Home) -> None:
    home.up()
    # A reboot: nobody gets to clean up, the files of the running cluster stay.
    kill(home.pid("supervisord"))
    home.kill_all()
    assert (home.state / "supervisor.sock").exists()
    assert "MISSING" in home.run("status")
    home.up()
    assert home.workers() == {"cpu-0"}
    kill(home.pid("supervisord"))
    home.run("down", "--force")
    assert home.processes() == []


def cut_off(home: Home, process: subprocess.Popen[str]) -> None:
    """Kill a command, and the process of its own that makes the changes."""
    process.kill()
    process.communicate()
    for found in home.processes():
        with suppress(psutil.Error):
            if "perennial.platforms.local.detached" in found.cmdline():
                found.kill()


@pytest.mark.parametrize(
    ("first", "changes"),
    [(3, 2), pytest.param(20, 10, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_up_killed_anywhere_and_run_again(home: Home, first: int, changes: int) -> None:
    moments = random.Random(20)
    home.spec["workers"]["cpu"]["count"] = 2
    home.write()
    for _ in range(first):
        process = home.start("up", "--yes", "--file", str(home.file))
        time.sleep(moments.uniform(0.1, 4.0))
        cut_off(home, process)
    home.up()
    assert home.workers() == {"cpu-0", "cpu-1"}
    assert "nothing to change" in home.up()
    # Also in the middle of a change: members half replaced.
    for threads in range(2, 2 + changes):
        home.spec["workers"]["cpu"]["threads"] = threads
        home.write()
        process = home.start("up", "--yes", "--file", str(home.file))
        time.sleep(moments.uniform(0.5, 4.0))
        cut_off(home, process)
    home.up()
    assert home.workers() == {"cpu-0", "cpu-1"}
    with home.client() as client:
        threads_now = {w["nthreads"] for w in workers_of(client).values()}
    assert threads_now == {1 + changes}
    schedulers = [p for p in home.processes() if p.pid == home.pid("scheduler")]
    assert len(schedulers) == 1


def test_two_up_at_once_make_one_cluster(home: Home) -> None:
    first = home.start("up", "--yes", "--file", str(home.file))
    second = home.start("up", "--yes", "--file", str(home.file))
    outputs = [process.communicate(timeout=200)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert any("waiting for process" in output for output in outputs)
    assert sum("nothing to change" in output for output in outputs) == 1
    assert home.workers() == {"cpu-0"}


def test_a_taken_port_is_named_before_anything_starts(home: Home) -> None:
    (port,) = free_ports(1)
    code = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); "
        "print('ready', flush=True); time.sleep(60)"
    )
    taker = subprocess.Popen(
        [os.path.join(os.path.dirname(PERENNIAL), "python"), "-c", code], stdout=subprocess.PIPE
    )
    assert taker.stdout is not None
    taker.stdout.readline()
    home.spec["scheduler"]["port"] = port
    home.write()
    said = home.up(code=2)
    assert f"{home.file}" in said
    assert "scheduler.port" in said
    assert str(port) in said
    assert str(taker.pid) in said
    assert home.processes() == []
    assert not (home.state / "conf.d").exists()
    taker.kill()
    taker.communicate()


def test_jupyter_killed(jupyter_home: Home) -> None:
    jupyter_home.up()
    before = jupyter_home.pid("jupyter")
    kill(before)
    wait_until(lambda: jupyter_home.pid("jupyter") not in (0, before))
    wait_until(lambda: speaks_http(jupyter_home.spec["jupyter"]["port"]))
    # Without its token it refuses to start; the next `up` makes a new one, and it comes.
    (jupyter_home.state / "secrets" / "jupyter-token").unlink()
    kill(jupyter_home.pid("jupyter"))
    assert "token" in jupyter_home.up()
    wait_until(lambda: speaks_http(jupyter_home.spec["jupyter"]["port"]))
