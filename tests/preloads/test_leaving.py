"""Who is needed where it is, by real shuffles and real restrictions."""

from __future__ import annotations

import time
from typing import Any

import dask
import dask.array as da
import numpy as np

from perennial.scaler.workers import DaskWorkers
from tests.preloads.in_process import Cluster, in_a_loop, short, started


def block(seconds: float, value: float) -> Any:
    """Rows of an array, after some time."""
    time.sleep(seconds)
    return np.full((10, 40), value)


def kept(cluster: Cluster) -> dict[str, bool]:
    """What the scheduler says of each member."""
    rows = cluster.ask(detail=["cpu"])["detail"]["cpu"]
    return {row[0]: row[-1] for row in rows}


@in_a_loop
async def test_a_worker_that_waiting_tasks_name_is_kept() -> None:
    async with started() as cluster:
        first = await cluster.member("cpu", "cpu-0")
        second = await cluster.member("cpu", "cpu-1")
        both = [first.address, second.address]
        assert kept(cluster) == {"cpu-0": False, "cpu-1": False}
        slow = cluster.client.submit(short, 30, workers=[second.address], pure=False)
        later = [
            cluster.client.submit(short, 0.02, slow, workers=[first.address]),
            cluster.client.submit(short, 0.0, slow, workers=both),
            cluster.client.submit(
                short, 0.01, slow, workers=[second.address], allow_other_workers=True
            ),
        ]
        await cluster.until(lambda: len(cluster.scheduler.tasks) == 4)
        # Nothing runs on the first one, and one task may run nowhere else.
        assert kept(cluster) == {"cpu-0": True, "cpu-1": False}
        workers = DaskWorkers(cluster.scheduler.address, {"cpu": 1})
        left = await workers.left(both, [first.address])
        assert [left[at].needed for at in both] == [True, False]
        cluster.check()
        await cluster.client.cancel([slow, *later], force=True)
        await cluster.until(lambda: not any(kept(cluster).values()))
        cluster.check()
        assert cluster.plugin.counts.binds == {}
        await workers.close()


@in_a_loop
async def test_whoever_takes_part_in_a_shuffle_is_kept() -> None:
    async with started() as cluster:
        names = [f"cpu-{n}" for n in range(3)]
        addresses = {name: (await cluster.member("cpu", name)).address for name in names}
        plugin: Any = cluster.scheduler.plugins["shuffle"]
        slow = [da.from_delayed(dask.delayed(block)(0.5, n), (10, 40), float) for n in range(6)]
        with dask.config.set({"array.rechunk.method": "p2p"}):
            turned = da.concatenate(slow).rechunk((60, 4))
        future = cluster.client.compute(turned.sum(axis=0).sum())
        await cluster.until(lambda: bool(plugin.active_shuffles))
        assert kept(cluster) == dict.fromkeys(names, True)
        workers = DaskWorkers(cluster.scheduler.address, {"cpu": 1})
        left = await workers.left(list(addresses.values()), [])
        assert all(each.needed for each in left.values())
        assert await future == 40 * 10 * sum(range(6))
        del future
        await cluster.until(lambda: not any(kept(cluster).values()))
        await workers.close()
