"""A worker that is told to stop in the middle of a shuffle, or with tasks bound to it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, Future

from tests.dask_processes import workers_of
from tests.preloads.conftest import Lab, until

pytestmark = pytest.mark.lab

SIDE, PARTS = 24, 12


def functions() -> Any:
    """What workers and the scheduler run; local functions travel with their code."""

    def part(folder: str, number: int, seconds: float) -> Any:
        """Append a line to the part's own file, and give its rows after some time."""
        with Path(folder, f"part-{number}").open("a") as file:
            file.write("run\n")
        time.sleep(seconds)
        return np.full((2, SIDE), float(number))

    def counted(folder: str, name: str, seconds: float) -> str:
        with Path(folder, name).open("a") as file:
            file.write("run\n")
        end = time.monotonic() + seconds
        while time.monotonic() < end and not Path(f"{folder}.end").exists():
            time.sleep(0.05)
        return name

    def taking_part(dask_scheduler: Any) -> set[str]:
        """Addresses of the workers of shuffles that go on."""
        active = dask_scheduler.plugins["shuffle"].active_shuffles.values()
        return {address for shuffle in active for address in shuffle.participating_workers}

    return part, counted, taking_part


part, counted, taking_part = functions()


def shuffled(client: Client, folder: str, seconds: float) -> Future:
    """Begin a shuffle whose inputs write down that they have run."""
    parts = [
        da.from_delayed(dask.delayed(part)(folder, n, seconds), (2, SIDE), float)
        for n in range(PARTS)
    ]
    with dask.config.set({"array.rechunk.method": "p2p"}):
        return client.compute(da.concatenate(parts).rechunk((SIDE, 2)).sum())


def in_a_shuffle(
    lab: Lab, count: int, seconds: float, **environment: str
) -> tuple[Client, dict[str, subprocess.Popen[bytes]], Future]:
    """Workers that all take part in a shuffle, and its result."""
    lab.scheduler("--preload", "perennial.preloads.demand")
    workers = {f"w{n}": lab.worker(f"w{n}", **environment) for n in range(count)}
    client = lab.client(count)
    future = shuffled(client, lab.counted(), seconds)
    until(lambda: len(client.run_on_scheduler(taking_part)) == count, "all take part", 60)
    return client, workers, future


@pytest.mark.parametrize("leaving", [1, 2])
def test_no_input_of_a_shuffle_runs_again(lab: Lab, leaving: int) -> None:
    _, workers, future = in_a_shuffle(lab, 4, 0.5)
    names = [f"w{n}" for n in range(leaving)]
    for name in names:
        workers[name].terminate()
    assert future.result(timeout=60) == 2 * SIDE * sum(range(PARTS))
    assert set(lab.runs().values()) == {1}
    for name in names:
        assert workers[name].wait(40) == 0
        assert "waits for a shuffle that goes on there" in lab.log(name)
        assert f"Drained {name} at" in lab.log(name)
    assert "restarted due to stimulus" not in lab.log("scheduler")


def test_a_shuffle_that_begins_during_a_drain(lab: Lab) -> None:
    """Dask gives output to a worker that is parked already: that worker has to do it."""
    lab.scheduler("--preload", "perennial.preloads.demand")
    workers = {f"w{n}": lab.worker(f"w{n}") for n in range(3)}
    client = lab.client(3)
    addresses = {w["name"]: at for at, w in workers_of(client).items()}
    folder = lab.counted()
    slow = client.submit(counted, folder, "slow", 120, workers=["w0"], allow_other_workers=True)
    until(lambda: lab.runs()["slow"], "it runs")
    workers["w0"].terminate()
    until(lambda: "waits up to 60 s for 1 task" in lab.log("w0"), "the drain has begun")
    future = shuffled(client, folder, 0.5)
    until(lambda: addresses["w0"] in client.run_on_scheduler(taking_part), "it takes part", 60)
    Path(f"{folder}.end").touch()
    assert future.result(timeout=60) == 2 * SIDE * sum(range(PARTS))
    assert slow.result(timeout=5) == "slow"
    assert workers["w0"].wait(40) == 0
    assert set(lab.runs().values()) == {1}
    assert "Drained w0 at" in lab.log("w0")


def test_at_the_deadline_it_leaves_a_shuffle(lab: Lab) -> None:
    # The inputs run first, and what is left of the shuffle then takes half a second.
    _, workers, future = in_a_shuffle(lab, 3, 0.5, DASK_PERENNIAL__DRAIN="100 ms")
    workers["w0"].terminate()
    assert workers["w0"].wait(30) == 0
    log = lab.log("w0")
    passed = "the deadline (perennial.drain: 0.1 s) has passed"
    assert f"{passed}, in the middle of a shuffle that goes on there" in log
    assert future.result(timeout=120) == 2 * SIDE * sum(range(PARTS))
    assert max(lab.runs().values()) == 2


def test_tasks_that_may_run_nowhere_else_run_first(lab: Lab) -> None:
    lab.scheduler("--preload", "perennial.preloads.demand")
    workers = {f"w{n}": lab.worker(f"w{n}") for n in range(2)}
    client, folder = lab.client(2), lab.counted()
    names = [f"bound-{n}" for n in range(4)]
    futures = [client.submit(counted, folder, name, 0.5, workers=["w0"]) for name in names]
    until(lambda: lab.runs()[names[0]], "the first one runs")
    workers["w0"].terminate()
    assert client.gather(futures) == names
    assert workers["w0"].wait(40) == 0
    assert set(lab.runs().values()) == {1}
    assert "waits for tasks that may run nowhere else" in lab.log("w0")
    assert "Drained w0 at" in lab.log("w0")


def test_a_scheduler_that_runs_no_functions_is_no_trouble(lab: Lab) -> None:
    blocked = {"DASK_DISTRIBUTED__SCHEDULER__BLOCKED_HANDLERS": "['run_function']"}
    lab.scheduler(**blocked)
    workers = {f"w{n}": lab.worker(f"w{n}") for n in range(2)}
    client = lab.client(2)
    data = client.scatter(b"x" * 100, workers=["w0"], hash=False)
    workers["w0"].terminate()
    assert workers["w0"].wait(40) == 0
    assert "Drained w0 at" in lab.log("w0")
    assert data.result(timeout=5) == b"x" * 100
