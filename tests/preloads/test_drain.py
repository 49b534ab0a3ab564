"""A worker that is told to stop loses nothing: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Future, secede

from perennial.preloads.drain import CONNECT, reach
from tests.dask_processes import workers_of
from tests.preloads.conftest import DRAIN, Lab, Relay, made, until


def functions() -> tuple[Callable[..., int], Callable[..., int]]:
    """What workers run; local functions travel with their code, for workers lack the tests."""

    def work(folder: str, key: str, seconds: float, *inputs: int) -> int:
        """Append a line to the task's own file, take its time, and add up."""
        with Path(folder, key).open("a") as file:
            file.write(f"{os.getpid()}\n")
        end = time.monotonic() + seconds
        while time.monotonic() < end and not Path(folder).with_name(f"{key}.end").exists():
            time.sleep(min(seconds, 0.05))
        return sum(inputs) + 1

    def seceded(folder: str, key: str, seconds: float) -> int:
        secede()
        return work(folder, key, seconds)

    return work, seceded


work, seceded = functions()


def end(lab: Lab, *keys: str) -> None:
    """Let long tasks end, so that no test waits for the thread of a task that is lost."""
    for key in keys:
        (lab.folder / f"{key}.end").touch()


def registered(client: Client, name: str) -> str | None:
    """Address of the worker with a name; None when there is no such worker now."""
    workers = workers_of(client)
    return next((at for at, worker in workers.items() if worker["name"] == name), None)


class Standing:
    """A scheduler with a worker that stays, and workers for the tests to stop."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        # Where a task begins is said by the test: no idle worker takes it away before.
        lab.scheduler(DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING="False")
        # It is paused by a test and by nothing else.
        lab.worker("rest", DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE="False")
        self.client: Client = lab.client(1)

    def address(self, name: str) -> str:
        found: str = until(lambda: registered(self.client, name), f"{name} has registered", 60)
        return found

    def run(self, key: str, seconds: float, on: str, function: Any = work) -> Future:
        """Begin a task on a worker, and wait until it has begun."""
        before = self.lab.runs()[key]
        future = self.submit(key, seconds, on, function)
        until(lambda: self.lab.runs()[key] > before, f"{key} has begun")
        return future

    def submit(self, key: str, seconds: float, on: str, function: Any = work) -> Future:
        where = {"workers": [self.address(on)], "allow_other_workers": True}
        return self.client.submit(function, self.lab.counted(), key, seconds, key=key, **where)


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    with made() as lab:
        yield Standing(lab)


@pytest.mark.parametrize("to_group", [False, True])
def test_a_drain_keeps_tasks_and_data(standing: Standing, to_group: bool) -> None:
    lab, client = standing.lab, standing.client
    name = f"kept-{to_group}"
    process = lab.worker(name, "--nthreads", "2")
    data = client.scatter(b"x" * 1000, workers=[standing.address(name)], hash=False)
    held = standing.submit(f"{name}-held", 0, on=name)
    assert held.result(timeout=20) == 1
    running = standing.run(f"{name}-running", 60, on=name)
    apart = standing.run(f"{name}-seceded", 60, on=name, function=seceded)
    queued = [standing.submit(f"{name}-queued-{i}", 0.5, on=name) for i in range(3)]
    stop = os.killpg if to_group else os.kill
    stop(process.pid, signal.SIGTERM)
    until(lambda: "waits up to 60 s" in lab.log(name), "the drain has begun")
    stop(process.pid, signal.SIGTERM)  # a second one changes nothing
    end(lab, f"{name}-running", f"{name}-seceded")
    assert process.wait(30) == 0
    assert data.result(timeout=5) == b"x" * 1000
    assert client.gather([held, running, apart, *queued]) == [1] * 6
    assert {n for key, n in lab.runs().items() if key.startswith(name)} == {1}
    log = lab.log(name)
    assert f"Drained {name} at" in log
    assert f"{name}-running" in log
    assert f"{name}-seceded" in log


def test_without_keep_a_signal_to_the_group_loses(standing: Standing) -> None:
    """The comparison that shows that the test above can fail."""
    lab, client = standing.lab, standing.client
    process = lab.worker("lost", *DRAIN)
    data = client.scatter(b"y" * 1000, workers=[standing.address("lost")], hash=False)
    running = standing.run("lost-running", 60, on="lost")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    end(lab, "lost-running")
    # Whichever end the nanny hears of first, the drain does not come to its own.
    assert "Drained" not in lab.log("lost")
    assert running.result(timeout=20) == 1
    assert lab.runs()["lost-running"] == 2
    assert data.status in ("cancelled", "lost")


@pytest.mark.lab
@pytest.mark.quiet
def test_a_worker_leaves_at_its_deadline_and_names_what_it_abandons(standing: Standing) -> None:
    lab, client = standing.lab, standing.client
    process = lab.worker("late", DASK_PERENNIAL__DRAIN="2 s")
    data = client.scatter(b"z" * 1000, workers=[standing.address("late")], hash=False)
    future = standing.run("late-long", 60, on="late")
    begun = time.monotonic()
    process.terminate()
    until(lambda: "without a complete drain" in lab.log("late"), "the deadline has passed")
    assert 2 < time.monotonic() - begun < 10
    end(lab, "late-long")
    assert process.wait(20) == 0
    log = lab.log("late")
    assert "the deadline (perennial.drain: 2 s) has passed" in log
    assert "abandons 1 task (late-long)" in log
    assert data.result(timeout=5) == b"z" * 1000
    assert future.result(timeout=20) == 1  # on another worker: that is what abandoned means
    assert lab.runs()["late-long"] == 2


@pytest.mark.lab
@pytest.mark.quiet
def test_ctrl_c_drains_and_a_second_one_leaves_at_once(standing: Standing) -> None:
    lab = standing.lab
    process = lab.worker("typed")
    future = standing.run("typed-long", 60, on="typed")
    os.killpg(process.pid, signal.SIGINT)
    until(lambda: "waits up to 60 s for 1 task (typed-long)" in lab.log("typed"), "it drains")
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(20)
    assert time.monotonic() - begun < 8
    end(lab, "typed-long")
    assert future.result(timeout=20) == 1


def test_a_drain_waits_for_paused_workers(standing: Standing) -> None:
    lab, client = standing.lab, standing.client
    process = lab.worker("patient")
    data = client.scatter(b"p" * 1000, workers=[standing.address("patient")], hash=False)
    rest = [standing.address("rest")]

    def pause(dask_worker: Any) -> None:
        dask_worker.status = dask_worker.status.paused

    def resume(dask_worker: Any) -> None:
        dask_worker.status = dask_worker.status.running

    client.run(pause, workers=rest)
    try:
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    finally:
        client.run(resume, workers=rest)
    assert process.wait(20) == 0
    assert "Drained patient at" in lab.log("patient")
    assert data.result(timeout=5) == b"p" * 1000


def test_what_tasks_start_still_ends_on_sigterm(standing: Standing) -> None:
    """The worker does nothing on SIGTERM; its children must not have that from it."""

    def children() -> tuple[int, int]:
        program = subprocess.Popen(["sleep", "30"])
        program.terminate()
        fork = os.fork()
        if fork == 0:
            time.sleep(30)
            os._exit(0)
        time.sleep(0.5)
        os.kill(fork, signal.SIGTERM)
        return program.wait(5), os.WTERMSIG(os.waitpid(fork, 0)[1])

    future = standing.client.submit(children, pure=False, workers=["rest"])
    assert future.result(timeout=20) == (-signal.SIGTERM, signal.SIGTERM)


def test_two_workers_of_one_process(standing: Standing) -> None:
    lab, client = standing.lab, standing.client
    process = lab.worker("twin", "--nworkers", "2")
    twins = [standing.address("twin-0"), standing.address("twin-1")]
    data = [client.scatter(i, workers=[at], hash=False) for i, at in enumerate(twins)]
    tasks = [standing.run(f"twin-{i}-running", 60, on=f"twin-{i}") for i in range(2)]
    process.terminate()
    until(lambda: lab.log("twin").count("waits up to 60 s") == 2, "both drains have begun")
    end(lab, "twin-0-running", "twin-1-running")
    assert process.wait(30) == 0
    assert client.gather([*data, *tasks]) == [0, 1, 1, 1]
    assert {lab.runs()[f"twin-{i}-running"] for i in range(2)} == {1}
    assert lab.log("twin").count("Drained twin-") == 2
    assert "the deadline" not in lab.log("twin")


def test_a_retired_worker_does_not_drain_again(standing: Standing) -> None:
    lab, client = standing.lab, standing.client
    process = lab.worker("retired")
    address = standing.address("retired")
    data = client.scatter(b"r", workers=[address], hash=False)
    client.retire_workers([address])
    assert process.wait(20) == 0
    assert "distributed.perennial.drain" not in lab.log("retired")
    assert data.result(timeout=5) == b"r"


@pytest.mark.lab
@pytest.mark.quiet
def test_the_scheduler_dies_during_a_drain() -> None:
    with made() as lab:
        scheduler = lab.scheduler()
        workers = {name: lab.worker(name) for name in "ab"}
        client, folder = lab.client(2), lab.counted()
        futures = [client.submit(work, folder, f"t{i}", 60, key=f"t{i}") for i in range(2)]
        until(lambda: len(lab.runs()) == len(futures), "both tasks have begun")
        workers["a"].terminate()
        until(lambda: "waits up to 60 s" in lab.log("a"), "the drain has begun")
        begun = time.monotonic()
        scheduler.kill()
        for name, process in workers.items():
            assert process.wait(20) == 0
            assert "distributed.nanny - ERROR" not in lab.log(name)
        assert time.monotonic() - begun < 12  # Dask alone would wait 30 s for the threads
        assert "without a complete drain" in lab.log("a")


@pytest.mark.lab
@pytest.mark.quiet
def test_a_scheduler_whose_host_is_gone() -> None:
    """Nothing answers, and no connection is ever closed: what a lost machine looks like."""
    with made() as lab, Relay(lab.port) as relay:
        lab.scheduler()
        process = lab.worker("far", at=f"tcp://127.0.0.1:{relay.port}")
        client = lab.client(1)
        future = client.submit(work, lab.counted(), "t", 60, key="t")
        until(lambda: lab.runs()["t"] == 1, "the task has begun")
        relay.go_dark()
        begun = time.monotonic()
        process.terminate()
        until(lambda: "without a complete drain" in lab.log("far"), "the drain has ended")
        assert time.monotonic() - begun < 15
        end(lab, "t")
        process.wait(20)
        assert "is gone" in lab.log("far")
        assert "abandons 1 task (t) and what only it holds" in lab.log("far")
        assert future.status == "pending"


def test_a_scheduler_that_is_too_busy_to_accept_connections_is_not_gone() -> None:
    """Its machine drops what comes to a full queue, and it is sent again a second later."""
    with socket.socket() as busy, ExitStack() as others:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(busy.getsockname())

        def accept() -> None:
            busy.settimeout(10)
            with suppress(OSError):  # until it is closed
                while True:
                    busy.accept()[0].close()

        later = threading.Timer(1.5, accept)
        later.start()
        begun = time.monotonic()
        asyncio.run(reach(f"tcp://127.0.0.1:{busy.getsockname()[1]}"))
        assert time.monotonic() - begun >= 1.5, "it was accepted at once"


def test_a_port_that_is_closed_is_known_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(reach(f"tcp://127.0.0.1:{closed.getsockname()[1]}"))
        assert time.monotonic() - begun < CONNECT / 2


@pytest.mark.parametrize("at", ["Start Nanny", "Waiting to connect"])
def test_a_worker_that_never_found_its_scheduler_ends_when_told_to(at: str) -> None:
    """A nanny alone would wait for the scheduler first, for ever."""
    with made() as lab:
        scheduler = lab.scheduler()
        process = lab.worker("early")
        until(lambda: "Start Nanny" in lab.log("early"), "its nanny has started")
        scheduler.kill()
        until(lambda: at in lab.log("early"), "it is starting")
        process.terminate()
        process.wait(20)
        assert "early had not found its scheduler yet" in lab.log("early")


def test_a_worker_whose_scheduler_was_never_there_ends_when_told_to() -> None:
    with made() as lab:
        process = lab.worker("alone")
        until(lambda: "perennial.preloads.drain" in lab.log("alone"), "its nanny is starting")
        process.terminate()
        process.wait(20)


@pytest.mark.lab
@pytest.mark.quiet
def test_all_workers_told_to_stop_leave_at_once() -> None:
    with made() as lab:
        lab.scheduler()
        workers = {name: lab.worker(name) for name in "abc"}
        client, folder = lab.client(3), lab.counted()
        keys = ["t0", "t1", "t2"]
        futures = [client.submit(work, folder, key, 60, key=key) for key in keys]
        until(lambda: len(lab.runs()) == len(futures), "all tasks have begun")
        begun = time.monotonic()
        for process in workers.values():
            process.terminate()
        for name in workers:
            until(lambda name=name: "without a complete drain" in lab.log(name), "it leaves")
        assert time.monotonic() - begun < 8
        end(lab, *keys)
        for name, process in workers.items():
            process.wait(20)
            assert "no other worker is left to take over" in lab.log(name)
            assert "abandons 1 task (t" in lab.log(name)
        assert {future.status for future in futures} == {"pending"}


def test_workers_that_are_told_to_stop_together_send_each_key_once(lab: Lab) -> None:
    lab.scheduler()
    stay = ["stay-0", "stay-1"]
    for name in stay:
        lab.worker(name)
    leaving = {f"leave-{i}": lab.worker(f"leave-{i}") for i in range(4)}
    client = lab.client(6)
    data = {
        f"{name}-{i}": client.submit(
            os.urandom, 1_000_000, key=f"{name}-{i}", workers=[registered(client, name)]
        )
        for name in leaving
        for i in range(25)
    }
    until(lambda: {future.status for future in data.values()} == {"finished"}, "all is made")
    for process in leaving.values():
        process.terminate()
    for name, process in leaving.items():
        assert process.wait(60) == 0
        assert f"Drained {name} at" in lab.log(name)

    def received(dask_worker: Any) -> list[str]:
        return [str(key) for each in dask_worker.transfer_incoming_log for key in each["keys"]]

    where = [registered(client, name) for name in stay]
    found = client.run(received, workers=where)
    keys = [key for each in found.values() for key in each]
    assert set(keys) == set(data)
    # Dask alone sends 40 more. One may be sent to a worker that is told to stop a moment later.
    assert len(keys) <= 1.1 * len(data)
    assert {future.status for future in data.values()} == {"finished"}


def test_a_scheduler_of_an_earlier_version_moves_data_by_itself(lab: Lab) -> None:
    preload = lab.folder / "earlier.py"
    modules = ["perennial.preloads.retiring", "perennial.preloads.parking"]
    preload.write_text(f"import sys\nsys.modules.update(dict.fromkeys({modules}))\n")
    lab.scheduler("--preload", str(preload))
    leaving = lab.worker("leaves")
    client = lab.client(1)
    future = client.submit(os.urandom, 1_000_000)
    until(lambda: future.status == "finished", "it is made")
    before = future.result()
    lab.worker("stays")
    client.wait_for_workers(2, timeout=60)
    leaving.terminate()
    assert leaving.wait(60) == 0
    assert "Drained leaves at" in lab.log("leaves")
    assert future.result(timeout=30) == before


@pytest.mark.lab
@pytest.mark.parametrize(
    "drains", [8, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
@pytest.mark.smoke
def test_drains_under_load(lab: Lab, drains: int) -> None:
    """Workers come and go under a graph of dependent tasks: none runs twice, no key is lost."""
    lab.scheduler()
    names = [f"w{i}" for i in range(drains + 2)]
    workers = {name: lab.worker(name, "--nthreads", "2") for name in names[:5]}
    client = lab.client(5)
    folder, chance = lab.counted(), random.Random(7)
    futures: list[Future] = []
    scattered: list[Future] = []

    def load(size: int) -> None:
        for _ in range(size):
            inputs = chance.sample(futures[-12:], min(2, len(futures)))
            key, seconds = f"task-{len(futures)}", chance.choice((0.0, 0.1, 0.5))
            futures.append(client.submit(work, folder, key, seconds, *inputs, key=key))

    for turn in range(drains):
        load(10)
        leaving = names[turn]
        client.wait_for_workers(3, timeout=60)  # others may still be starting
        address = until(lambda name=leaving: registered(client, name), f"{leaving} is there")
        scattered.append(client.scatter(turn, workers=[address], hash=False))
        load(5)
        workers[leaving].terminate()
        for following in names[turn + 5 : turn + 6]:
            workers[following] = lab.worker(following, "--nthreads", "2")
        assert workers[leaving].wait(60) == 0
        assert f"Drained {leaving} at" in lab.log(leaving)
    assert client.gather(scattered) == list(range(drains))
    results = client.gather(futures)
    assert len(results) == 15 * drains
    assert {future.status for future in [*futures, *scattered]} == {"finished"}
    runs = lab.runs()
    assert len(runs) == len(futures)
    assert [key for key, count in runs.items() if count != 1] == []
