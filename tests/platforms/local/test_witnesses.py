"""Faults that were reported of a standing cluster with a scaler, done again as they were seen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client

from tests.homes import Home, make_home, wait_until
from tests.ports import free_ports

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(1200)]

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
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return {worker["name"]: (at, worker["status"]) for at, worker in workers.items()}


def of_four(home: Home, client: Client) -> dict[str, tuple[str, str]]:
    """Have four members that run."""
    home.run("scale", "cpu=4")
    wait_until(lambda: [s for _, s in members(client).values()] == ["running"] * 4, LONG)
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
