"""Drains of members whose process is restarted meanwhile, as by `client.restart()`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import dask
import pytest

from perennial.scaler import timing
from perennial.scaler.drain import Drain, Drains
from perennial.scaler.workers import PARKED, RUNNING, DaskWorkers
from tests.preloads.in_process import PATIENCE, Cluster, in_a_loop, started

WHO = ("cpu", "cpu-1")
DONE = threading.Event()


def busy() -> None:
    DONE.wait()


@asynccontextmanager
async def draining(cluster: Cluster) -> AsyncIterator[tuple[Drains, Any]]:
    """Drain a member that has something to do; give the drains and its worker."""
    await cluster.member("cpu", "cpu-0")
    worker = await cluster.member("cpu", "cpu-1")
    DONE.clear()
    future = cluster.client.submit(busy, workers=[worker.address], key="busy", pure=False)
    await cluster.until(lambda: bool(cluster.scheduler.workers[worker.address].processing))
    dask_workers = DaskWorkers(cluster.scheduler.address, {"cpu": 1})
    drains = Drains(dask_workers, monotonic)
    rounds = asyncio.create_task(drains.run())
    try:
        drains.begin(Drain(*WHO, monotonic(), deadline=600.0, on_deadline="wait"))
        await cluster.until(lambda: word(cluster, worker.address) == PARKED)
        yield drains, worker
    finally:
        DONE.set()
        rounds.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await rounds
        await drains.close()
        await dask_workers.close()
        del future


def word(cluster: Cluster, address: str) -> str:
    known = cluster.scheduler.workers.get(address)
    return known.status.name if known is not None else ""


@in_a_loop
async def test_a_restarted_member_is_not_waited_for_at_its_old_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "WORKER_ANSWER", 10.0 * PATIENCE)
    monkeypatch.setattr(timing, "PARK", 0.0)  # it is told in each round
    slow = {"distributed.comm.timeouts.connect": 10 * PATIENCE}
    async with started() as cluster, draining(cluster) as (drains, worker):
        told, gone = asyncio.Event(), asyncio.Event()
        park = drains.workers.park

        async def late(addresses: Any) -> Any:
            """Tell it once it has gone, as when that happens between a look and a word."""
            if addresses == {worker.address}:
                told.set()
                await gone.wait()
            return await park(addresses)

        drains.workers.park = late  # type: ignore[method-assign]
        with dask.config.set(slow):
            await told.wait()
            await cluster.scheduler.remove_worker(worker.address, stimulus_id="test")
            DONE.set()
            await worker.close(nanny=False)
            gone.set()
            again = await cluster.member("cpu", "cpu-1")
            await cluster.until(lambda: word(cluster, again.address) == PARKED)
            drains.bring_back([WHO])
            await cluster.until(lambda: WHO not in drains.returning)
            assert word(cluster, again.address) == RUNNING


@in_a_loop
async def test_a_process_that_ends_is_told_nothing() -> None:
    async with started() as cluster, draining(cluster) as (drains, worker):
        told = []
        park = drains.workers.park

        async def noted(addresses: Any) -> Any:
            told.append(addresses)
            return await park(addresses)

        drains.workers.park = noted  # type: ignore[method-assign]
        await cluster.until(lambda: drains.drains[WHO].moved)
        state = cluster.scheduler.workers[worker.address]
        cluster.scheduler.handle_worker_status_change("closing", state, "test")
        await cluster.until(lambda: drains.drains[WHO].ending)
        told.clear()
        await asyncio.sleep(5 * timing.SLOW)
        assert told == []
        cluster.scheduler.handle_worker_status_change("running", state, "test")
        await cluster.until(lambda: told)


@in_a_loop
async def test_a_slow_scheduler_does_not_keep_a_member_parked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "SHARE", 1e-6)  # a round of a millisecond: a pause of many minutes
    async with started() as cluster, draining(cluster) as (drains, worker):
        drains.bring_back([WHO])
        await cluster.until(lambda: WHO not in drains.returning)
        assert word(cluster, worker.address) == RUNNING
