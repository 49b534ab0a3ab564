"""Faults that were reported of a standing cluster with a scaler, done again as they were seen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, Future

from tests.dask_processes import workers_of
from tests.homes import Home, make_home, wait_until
from tests.ports import free_ports
from tests.preloads.conftest import times_run
from tests.preloads.test_drain_shuffle import PARTS, SIDE, shuffled, taking_part

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

#: Seconds until a few members have come or gone on a machine that is busy with other things.
LONG = 300


@pytest.fixture(scope="module")
def standing() -> Iterator[Home]:
    for home in make_home():
        scale = {"min": 0, "max": 4, "idle": "3 s"}
        home.spec["workers"] = {"cpu": {"memory": "512 MiB", "drain": "60 s", "scale": scale}}
        home.spec["scaler"] = {"interval": "1 s", "port": free_ports(1)[0]}
        home.write()
        home.up()
        yield home
        home.run("down", "--force")
        assert home.processes() == []


def functions() -> Callable[[str, int, float], int]:
    """What workers run; local functions travel with their code."""

    def recorded(folder: str, number: int, seconds: float) -> int:
        with open(f"{folder}/{number}", "a") as file:
            file.write("run\n")
        time.sleep(seconds)
        return number

    return recorded


recorded = functions()


def members(client: Client) -> dict[str, tuple[str, str]]:
    """Address and state of each member that has registered, by its name."""
    workers = workers_of(client)
    return {worker["name"]: (at, worker["status"]) for at, worker in workers.items()}


def states(client: Client) -> list[str]:
    """State of each member that has registered."""
    return sorted(state for _, state in members(client).values())


def of_four(home: Home, client: Client) -> dict[str, tuple[str, str]]:
    """Have four members that run."""
    home.run("scale", "cpu=4")
    wait_until(lambda: states(client) == ["running"] * 4, LONG)
    return members(client)


def test_a_dead_member_leaves_and_one_that_works_stays(standing: Home, tmp_path: Path) -> None:
    with standing.client() as client:
        there = of_four(standing, client)
        data = client.scatter([bytes([n]) * 100_000 for n in range(40)])
        client.replicate(data, n=2)
        # Dask takes further copies back (ReduceReplicas): what dies with its only holder is lost.
        wait_until(lambda: {len(at) for at in client.who_has(data).values()} == {1}, LONG)
        victim = "cpu-3"
        address, _ = there[victim]
        held = {key for key, at in client.who_has(data).items() if address in at}
        assert held
        futures = client.map(recorded, [str(tmp_path)] * 24, range(24), [4] * 24, pure=False)
        wait_until(lambda: len(list(tmp_path.iterdir())) >= 4, LONG)
        nanny = psutil.Process(standing.pid(victim))
        [worker] = client.run(os.getpid, workers=[address]).values()
        nanny.suspend()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: victim not in members(client), LONG)
        standing.run("scale", "cpu=1")

        def one_is_left() -> bool:
            now = members(client)
            assert "running" in {state for _, state in now.values()}, "nobody works any more"
            return len(now) == 1

        wait_until(one_is_left, LONG)
        wait_until(lambda: standing.pid(victim) == 0 and not nanny.is_running(), LONG)
        assert victim not in members(client)
        assert client.gather(futures) == list(range(24))
        # The dead one had one thread: what it ran is all that ran again.
        again = [file.name for file in tmp_path.iterdir() if file.read_text().count("run") > 1]
        assert len(again) <= 1
        kept = [future for future in data if future.key not in held]
        assert client.gather(kept) == [
            bytes([n]) * 100_000 for n, future in enumerate(data) if future.key not in held
        ]
        lost = [future for future in data if future.key in held]
        assert {future.status for future in lost} == {"cancelled"}
        del futures, kept, lost
        data.clear()
        standing.run("scale", "cpu", "--auto")
        wait_until(lambda: not members(client), LONG)


def making() -> Callable[[int, str], Any]:
    """Make what workers run; local functions travel with their code."""

    def part(number: int, folder: str) -> Any:
        """Make the rows of a data frame's part, and write down that it was made."""
        import numpy as np
        import pandas as pd

        with open(f"{folder}/part-{number}", "a") as file:
            file.write("run\n")
        keys = np.random.RandomState(number).randint(0, 100, 500)
        return pd.DataFrame({"key": keys, "value": np.arange(500) + number * 500})

    return part


def frame(client: Client, folder: str) -> Future:
    """Begin a P2P shuffle of a data frame whose rows add up to a known sum."""
    import dask.dataframe as dd
    import pandas as pd

    meta = pd.DataFrame({"key": [1], "value": [1]})
    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        made = dd.from_map(making(), list(range(PARTS)), folder=folder, meta=meta)
        return client.compute(made.shuffle("key", npartitions=PARTS).value.sum())


@pytest.mark.parametrize("how", ["scale", "SIGTERM"])
def test_a_shuffle_of_an_array_after_one_of_a_data_frame(
    standing: Home, tmp_path: Path, how: str
) -> None:
    """Inputs that ran again had lost their worker to its memory limit, and not to a drain."""
    rows, cells = tmp_path / "rows", tmp_path / "cells"
    rows.mkdir()
    cells.mkdir()
    with standing.client() as client:
        of_four(standing, client)
        assert frame(client, str(rows)).result(timeout=LONG) == sum(range(500 * PARTS))
        future = shuffled(client, str(cells), 1)
        while not client.run_on_scheduler(taking_part) and not future.done():
            time.sleep(0.05)
        assert not future.done(), future  # it has failed, or nobody has seen it going on
        if how == "scale":
            standing.run("scale", "cpu=1")
        else:
            os.kill(standing.pid("cpu-1"), signal.SIGTERM)
        assert future.result(timeout=LONG) == 2 * SIDE * sum(range(PARTS))
        for folder in (rows, cells):
            assert set(times_run(str(folder)).values()) == {1}
        for log in (standing.state / "logs").glob("cpu-*.log"):
            assert "exceeded 95% memory budget" not in log.read_text()
        del future
        standing.run("scale", "cpu", "--auto")
        wait_until(lambda: not members(client), LONG)


def test_a_scheduler_that_is_killed_in_the_middle_of_a_drain(standing: Home) -> None:
    with standing.client() as client:
        of_four(standing, client)
        futures = client.map(time.sleep, [120] * 4, pure=False)
        wait_until(lambda: sum(map(len, client.processing().values())) == 4, LONG)
        standing.run("scale", "cpu=1")
        wait_until(lambda: states(client).count("closing_gracefully") == 3, LONG)
        assert {future.status for future in futures} == {"pending"}
        before = standing.pid("scheduler")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: standing.pid("scheduler") not in (0, before), LONG)
    # What was asked for holds, nobody stays parked, and the group works.
    with standing.client() as client:
        wait_until(lambda: states(client) == ["running"], LONG)
        assert client.gather(client.map(abs, range(-20, 0), pure=False)) == [*range(20, 0, -1)]
        assert "pinned at 1" in standing.run("status")
        standing.run("scale", "cpu", "--auto")
        wait_until(lambda: not members(client), LONG)
