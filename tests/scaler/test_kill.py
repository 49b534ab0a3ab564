"""The scaler as a service: real processes, real signals, a real scheduler that comes and goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, Future

from tests.dask_processes import workers_of
from tests.ports import free_port
from tests.preloads.conftest import until
from tests.scaler.burden import Burden, names, work
from tests.scaler.cluster import Cluster, standing

pytestmark = pytest.mark.lab

GROUP: dict[str, Any] = {
    **{"name": "cpu", "min": 0, "max": 4, "slots": 1, "drain": 60.0, "step_down": 1.0},
    **{"idle": 2.0, "start_up": 5.0},
}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with standing(dict(GROUP), port=free_port()) as cluster:
        yield cluster


def page(cluster: Cluster, path: str) -> tuple[int, str]:
    port = json.loads(cluster.config.read_text())["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def begun(client: Client, cluster: Cluster, key: str, at: str, seconds: float) -> Future:
    """A task that has begun to run on a worker."""
    where = {"workers": [at], "allow_other_workers": True}
    future = client.submit(work, cluster.lab.counted(), key, seconds, key=key, **where)
    until(lambda: cluster.lab.runs()[key], f"{key} has begun")
    return future


def scattered(client: Client) -> list[Future]:
    """A number on each worker, which nobody can compute again."""
    places = enumerate(names(client).values())
    return [client.scatter(number, workers=[at], hash=False) for number, at in places]


def statuses(client: Client) -> dict[str, str]:
    workers = workers_of(client)
    return {worker["name"]: worker["status"] for worker in workers.values()}


@pytest.mark.smoke
def test_a_life(cluster: Cluster) -> None:
    """From nothing to work and back; a second scaler; a stop; a scheduler that is restarted."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(cluster.lab.folder / "notify")
    notices.bind(path)
    cluster.lab.environment["NOTIFY_SOCKET"] = path
    scaler = cluster.start()
    del cluster.lab.environment["NOTIFY_SOCKET"]
    notices.settimeout(60)
    assert notices.recv(1000) == b"READY=1"
    assert notices.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=act: cpu ")
    notices.close()
    client = cluster.lab.client()
    burden = Burden(client, cluster.lab.counted())
    burden.more(40)
    assert burden.check() == (0, 0)
    assert json.loads(page(cluster, "/health")[1])["healthy"]
    assert 'perennial_scaler_group_to{group="cpu"}' in page(cluster, "/metrics")[1]

    second = cluster.start()
    assert second.wait(60) == 1
    cluster.scaler = scaler
    assert f"found another scaler (process {scaler.pid} on " in cluster.log()

    platform = cluster.platforms["cpu"]
    until(lambda: platform.size() <= 1, "it shrinks when the work is done", 60)
    assert cluster.stop() == 0
    assert "Stopped" in cluster.log().splitlines()[-1]
    assert all(stat.st_mode & 0o077 == 0 for p in cluster.state.iterdir() if (stat := p.stat()))


def test_it_holds_while_the_scheduler_is_away(cluster: Cluster) -> None:
    scheduler = cluster.lab.processes[0]
    cluster.pin("cpu", 2)
    cluster.start()
    client = cluster.lab.client(2)
    asked = len(cluster.platforms["cpu"].asked)
    scheduler.kill()
    scheduler.wait()
    until(
        lambda: f"scheduler at {cluster.lab.address}: " in page(cluster, "/health")[1], "said", 60
    )
    until(lambda: page(cluster, "/health")[0] == 503, "it is not well", 60)
    assert len(cluster.platforms["cpu"].asked) == asked
    client.close(timeout=1)
    cluster.lab.scheduler("--preload", "perennial.preloads.demand")
    until(lambda: page(cluster, "/health")[0] == 200, "it is well again", 60)
    cluster.lab.client(2)
    assert len(cluster.platforms["cpu"].asked) == asked
    assert cluster.platforms["cpu"].size() == 2


@pytest.mark.quiet
def test_a_member_that_works_again_keeps_its_process_and_its_data(cluster: Cluster) -> None:
    """Work comes back while a member drains: it goes on, and no new one is started."""
    cluster.pin("cpu", 2)
    cluster.start()
    client = cluster.lab.client(2)
    pids = client.run(os.getpid)
    at = names(client)
    tasks = [begun(client, cluster, f"long-{n}", each, 12) for n, each in enumerate(at.values())]
    data = scattered(client)
    cluster.pin("cpu", 1)
    until(lambda: "closing_gracefully" in statuses(client).values(), "one is parked")
    cluster.pin("cpu", 2)
    before = time.monotonic()
    until(lambda: set(statuses(client).values()) == {"running"}, "it is back")
    assert time.monotonic() - before < 10
    more = [client.submit(work, cluster.lab.counted(), f"more-{n}", 0.1) for n in range(10)]
    assert client.gather([*tasks, *more, *data]) == [1] * 12 + [0, 1]
    assert set(cluster.lab.runs().values()) == {1}
    assert client.run(os.getpid) == pids
    until(lambda: "is back" in cluster.log(), "it is said")
    assert [named for _, named, _ in cluster.platforms["cpu"].asked] == [()]


def test_killed_while_a_member_is_parked_the_next_one_goes_on(cluster: Cluster) -> None:
    cluster.pin("cpu", 2)
    cluster.start()
    client = cluster.lab.client(2)
    tasks = [begun(client, cluster, f"t-{name}", at, 6) for name, at in names(client).items()]
    cluster.pin("cpu", 1)
    until(lambda: "closing_gracefully" in statuses(client).values(), "one is parked")
    cluster.kill()
    until(lambda: "goes on with its drain" in cluster.log(), "the next one knows")
    until(lambda: cluster.platforms["cpu"].size() == 1, "it is removed", 60)
    assert client.gather(tasks) == [1, 1]
    assert set(cluster.lab.runs().values()) == {1}
    until(lambda: len(names(client)) == 1, "it is gone", 30)
    assert client.gather(tasks) == [1, 1]


def test_past_the_deadline_it_stops_where_that_is_the_rule() -> None:
    with standing({**GROUP, "drain": 2.0, "on_deadline": "stop"}) as cluster:
        platform = cluster.platforms["cpu"]
        platform.environment["DASK_PERENNIAL__DRAIN"] = "10 min"
        cluster.pin("cpu", 2)
        cluster.start()
        client = cluster.lab.client(2)
        tasks = [begun(client, cluster, f"t-{name}", at, 20) for name, at in names(client).items()]
        data = [
            client.scatter(n, workers=[at], hash=False)
            for n, at in enumerate(names(client).values())
        ]
        cluster.pin("cpu", 1)
        until(lambda: "gives up 1 task (t-cpu-" in cluster.log(), "it is given up", 60)
        # Its process has ended, and has not waited for its own ten minutes.
        until(lambda: platform.codes, "its process has ended", 120)
        assert client.gather(data) == [0, 1]
        assert client.gather(tasks) == [1, 1]
        assert sorted(cluster.lab.runs().values()) == [1, 2]


def test_members_of_several_processes_leave_as_one() -> None:
    from tests.preloads.conftest import DRAIN, KEEP
    from tests.scaler.platform import MEMBER

    arguments = ("--nthreads", "1", "--nworkers", "2", *DRAIN, *KEEP, *MEMBER)
    with standing({**GROUP, "slots": 2, "processes": 2, "arguments": arguments}) as cluster:
        cluster.platforms["cpu"].environment["DASK_PERENNIAL__PROCESSES"] = "2"
        cluster.pin("cpu", 2)
        cluster.start()
        client = cluster.lab.client(4)
        at = names(client)
        assert at.keys() == {"cpu-0-0", "cpu-0-1", "cpu-1-0", "cpu-1-1"}
        tasks = [begun(client, cluster, f"t-{name}", each, 4) for name, each in at.items()]
        data = scattered(client)
        cluster.pin("cpu", 1)
        until(lambda: cluster.platforms["cpu"].size() == 1, "one is removed", 60)
        assert client.gather(tasks) == [1] * 4
        until(lambda: len(names(client)) == 2, "both of its processes are gone", 30)
        assert client.gather(data) == [0, 1, 2, 3]
        assert set(cluster.lab.runs().values()) == {1}


def test_work_that_nobody_can_run_is_named_and_starts_nothing() -> None:
    """What makes Dask's own Adaptive start and kill workers without end."""
    gpu = {**GROUP, "name": "gpu", "max": 1, "resources": {"GPU": 1}}
    with standing(dict(GROUP), gpu) as cluster:
        from tests.preloads.conftest import DRAIN, KEEP
        from tests.scaler.platform import MEMBER

        platform = cluster.platforms["gpu"]
        platform.arguments = ("--nthreads", "1", "--resources", "GPU=1", *DRAIN, *KEEP, *MEMBER)
        cluster.start()
        client = cluster.lab.client()
        folder = cluster.lab.counted()

        def tasks(what: str, number: int, **resources: int) -> list[Future]:
            return [
                client.submit(
                    work, folder, f"{what}-{n}", 0.2, key=f"{what}-{n}", resources=resources
                )
                for n in range(number)
            ]

        fpga = tasks("fpga", 60, FPGA=1)
        cpu, gpus = tasks("cpu", 20), tasks("gpu", 8, GPU=1)
        assert client.gather([*cpu, *gpus]) == [1] * 28
        del cpu, gpus  # the last member would stay for their results
        until(lambda: "60 tasks need FPGA: 1" in cluster.log(), "it is named")
        for each in cluster.platforms.values():
            until(lambda each=each: each.size() == 0, "all have left again", 60)
        started = sum(len(each.started) for each in cluster.platforms.values())
        time.sleep(10)
        assert sum(len(each.started) for each in cluster.platforms.values()) == started <= 5
        assert {future.status for future in fpga} == {"pending"}
        assert cluster.log().count("60 tasks need FPGA: 1") == 1


def test_all_of_it_speaks_tls() -> None:
    with standing(dict(GROUP), tls=True) as cluster:
        cluster.pin("cpu", 2)
        cluster.start()
        assert cluster.authority is not None
        client = cluster.lab.client(2, security=cluster.authority.security())
        assert cluster.lab.address.startswith("tls://")
        data = scattered(client)
        cluster.pin("cpu", 1)
        until(lambda: len(names(client)) == 1, "one is drained and gone", 60)
        assert client.gather(data) == [0, 1]


def test_a_dry_run_touches_nothing(cluster: Cluster) -> None:
    cluster.pin("cpu", 3)
    scaler = cluster.start("--dry-run")
    until(lambda: "0 → 3 (pin)" in cluster.log(), "it has decided", 60)
    time.sleep(2)
    assert cluster.platforms["cpu"].asked == []
    assert {each["mode"] for each in cluster.records()} == {"dry-run"}
    scaler.send_signal(signal.SIGINT)
    assert scaler.wait(30) == 0
