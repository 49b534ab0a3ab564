"""What people do with a standing cluster whose groups belong to the scaler."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from tests.dask_processes import workers_of
from tests.homes import Home, make_home, wait_until
from tests.ports import free_ports

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(1200)]

SMALL = {"memory": "512 MiB", "drain": "60 s"}
#: Seconds until a few members have come or gone on a machine that is busy with other things.
LONG = 300
MIB = 2**20

#: Many clients of one process, each as a person makes it: all submit and gather, then go on
#: submitting until they are ended.
CLIENTS = """
import sys, time
from distributed import Client
first = int(sys.argv[1])
clients = [Client(set_as_default=False, timeout=120) for _ in range(10)]
held = [c.map(pow, range(40), [first + n] * 40, pure=False) for n, c in enumerate(clients)]
for n, (client, futures) in enumerate(zip(clients, held)):
    assert client.gather(futures) == [x ** (first + n) for x in range(40)]
more = [c.map(time.sleep, [5.0] * 2, pure=False) for c in clients]
print("submitted", flush=True)
sys.stdin.readline()
for client in clients:
    client.close()
"""


@pytest.fixture(scope="module")
def standing() -> Iterator[Home]:
    for home in make_home():
        cpu = {**SMALL, "scale": {"min": 0, "max": 3, "idle": "3 s"}}
        gpu = {**SMALL, "scale": {"min": 0, "max": 2, "idle": "3 s", "priority": 5}}
        home.spec["workers"] = {"cpu": cpu, "gpu": {**gpu, "resources": {"GPU": 1}}}
        home.spec["scaler"] = {"interval": "1 s", "port": free_ports(1)[0]}
        home.write()
        home.up()
        home.run("connect")
        yield home
        home.run("down", "--force")


def slowly() -> Callable[[float, int], int]:
    """Make a task that takes its time, which the workers need not import."""

    def slow(seconds: float, number: int) -> int:
        time.sleep(seconds)
        return number

    return slow


slow = slowly()


def recorded() -> Callable[[str, int, int], bytes]:
    """Make a task that says in a folder that it runs, and returns so many bytes."""

    def record(folder: str, number: int, size: int) -> bytes:
        import os

        with open(f"{folder}/{os.getpid()}", "a") as file:
            file.write(f"{number}\n")
        return number.to_bytes(4) * (size // 4)

    return record


record = recorded()


def runs(folder: Path) -> Counter[int]:
    """How often each task has run."""
    return Counter(int(line) for file in folder.iterdir() for line in file.read_text().split())


def tasks(client: Client) -> int:
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def clients(client: Client) -> int:
    return client.run_on_scheduler(
        lambda dask_scheduler: sum(name.startswith("Client-") for name in dask_scheduler.clients)
    )


def members(client: Client, group: str = "") -> list[str]:
    workers = workers_of(client).values()
    return sorted(w["name"] for w in workers if w["name"].startswith(group))


def at_rest(client: Client) -> None:
    """Wait until all groups are at 0 again."""
    wait_until(lambda: not members(client), LONG)


def test_groups_with_priorities_and_work_that_nobody_can_run(standing: Home) -> None:
    with standing.client() as client:
        never = client.map(slow, [0] * 20, range(20), pure=False, resources={"FPGA": 1})
        never += client.map(slow, [0] * 5, range(5), pure=False, resources={"GPU": 4})
        plain = client.map(slow, [0.5] * 120, range(120), pure=False, priority=-1)
        first = client.map(slow, [0.5] * 20, range(20), pure=False, priority=10)
        gpu = client.map(slow, [0.5] * 60, range(60), pure=False, resources={"GPU": 1})
        wait_until(lambda: len(members(client, "gpu")) >= 1 and members(client, "cpu"), LONG)
        wait_until(lambda: len(members(client)) >= 3, LONG)
        assert client.gather(first) == list(range(20))
        assert client.gather(gpu) == list(range(60))
        assert client.gather(plain) == list(range(120))
        said = standing.run("explain")
        assert "20 tasks need FPGA: 1; no group has it" in said
        assert "5 tasks need GPU: 4" in said
        assert {future.status for future in never} == {"pending"}
        del first, gpu, plain
        at_rest(client)
        assert {future.status for future in never} == {"pending"}


def test_the_group_works_again_after_a_restart_during_a_drain(standing: Home) -> None:
    with standing.client() as client:
        standing.run("scale", "cpu=3")
        wait_until(lambda: len(members(client, "cpu")) == 3, LONG)
        futures = client.map(slow, [60] * 6, range(6), pure=False)
        standing.run("scale", "cpu=1")

        def words() -> list[str]:
            workers = workers_of(client).values()
            return sorted(worker["status"] for worker in workers)

        wait_until(lambda: words().count("closing_gracefully") == 2, LONG)
        client.restart(timeout=LONG)
        del futures
        standing.run("scale", "cpu=3")
        wait_until(lambda: words() == ["running"] * 3, 60)
        futures = client.map(slow, [0.1] * 30, range(30), pure=False)
        assert client.gather(futures) == list(range(30))
        standing.run("scale", "cpu", "--auto")
        del futures
        at_rest(client)


def test_restrictions_that_may_be_passed_over(standing: Home, tmp_path: Path) -> None:
    with standing.client() as client:
        standing.run("scale", "cpu=2")
        wait_until(lambda: len(members(client, "cpu")) == 2, LONG)
        away = ["cpu-77", "192.0.2.7", "tls://192.0.2.7:9"]
        loose: dict[str, Any] = {"allow_other_workers": True, "pure": False}
        futures = client.map(slow, [0.1] * 40, range(40), workers=away, **loose)
        assert client.gather(futures) == list(range(40))
        # Both are named, and one of them leaves before they are all run.
        named = members(client, "cpu")
        folder = [str(tmp_path)] * 300
        more = client.map(record, folder, range(300), [4] * 300, workers=named, **loose)
        last = client.map(slow, [1] * 30, range(30), workers=named, **loose)
        standing.run("scale", "cpu=1")
        assert client.gather(last) == list(range(30))
        wait_until(lambda: len(members(client, "cpu")) == 1, LONG)
        assert client.gather(more) == [n.to_bytes(4) for n in range(300)]
        assert set(runs(tmp_path).values()) == {1}
        del futures, more, last
        standing.run("scale", "cpu", "--auto")
        at_rest(client)
        # Dask's limit: what waits for a worker, while there is none, waits for those it names.
        again = client.map(slow, [0.1] * 10, range(10), workers=named, **loose)
        wait_until(
            lambda: "10 tasks name a worker or a host; it is not there" in standing.run("explain"),
            LONG,
        )
        assert not members(client)
        del again
        wait_until(lambda: tasks(client) == 0)


@pytest.mark.soak
def test_many_tiny_tasks_while_the_size_changes(standing: Home, tmp_path: Path) -> None:
    end, sizes = threading.Event(), iter([3, 1] * 1000)

    def resize() -> None:
        while not end.is_set():
            standing.run("scale", f"cpu={next(sizes)}")
            end.wait(5)

    with standing.client() as client:
        changing = threading.Thread(target=resize)
        changing.start()
        try:
            futures = []
            for first in range(0, 20_000, 1_000):
                numbers = range(first, first + 1_000)
                made = client.map(record, [str(tmp_path)] * 1_000, numbers, [4] * 1_000, pure=False)
                assert client.gather(made) == [n.to_bytes(4) for n in numbers]
                futures += made
        finally:
            end.set()
            changing.join()
        # What is held outlives every member that has made it, and nothing has run twice.
        standing.run("scale", "cpu=1")
        wait_until(lambda: len(members(client, "cpu")) == 1, LONG)
        assert client.gather(futures) == [n.to_bytes(4) for n in range(20_000)]
        assert len(list(tmp_path.iterdir())) > 1, "one member did it all"
        found = runs(tmp_path)
        assert len(found) == 20_000
        assert {number: n for number, n in found.items() if n > 1} == {}
        del made, futures
        wait_until(lambda: tasks(client) == 0)
        standing.run("scale", "cpu", "--auto")
        at_rest(client)


def test_fifty_clients_some_of_which_are_killed(standing: Home) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENTS, str(10 * n)],
            env=standing.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(5)
    ]
    try:
        with standing.client() as client:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == "submitted\n"
            assert clients(client) == 51
            for process in started[:3]:
                process.kill()
            for process in started[3:]:
                process.communicate("\n", timeout=120)
                assert process.returncode == 0
            wait_until(lambda: clients(client) == 1, LONG)
            wait_until(lambda: tasks(client) == 0, LONG)
            at_rest(client)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_data_that_fits_only_in_all_members(standing: Home, tmp_path: Path) -> None:
    with standing.client() as client:
        standing.run("scale", "cpu=3")
        wait_until(lambda: len(members(client, "cpu")) == 3, LONG)
        places, size = members(client, "cpu"), 20 * MIB
        futures = [
            client.submit(record, str(tmp_path), n, size, workers=[places[n % 3]], pure=False)
            for n in range(30)
        ]
        assert client.gather(client.map(len, futures)) == [size] * 30
        # Nobody works, for much longer than the group's `idle`.
        standing.run("scale", "cpu", "--auto")
        time.sleep(20)
        assert len(members(client, "cpu")) >= 2
        assert {future.status for future in futures} == {"finished"}
        standing.run("scale", "cpu=1")
        wait_until(
            lambda: "their data has no room in fewer" in standing.run("explain", "cpu"), LONG
        )
        assert len(members(client, "cpu")) >= 2
        assert client.gather(client.map(len, futures)) == [size] * 30
        assert set(runs(tmp_path).values()) == {1}
        del futures
        wait_until(lambda: len(members(client, "cpu")) == 1, LONG)
        standing.run("scale", "cpu", "--auto")
        at_rest(client)
