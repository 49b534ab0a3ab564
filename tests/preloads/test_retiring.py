"""What a leaving worker holds moves to others, each key once: real workers in one process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Any

import dask
import pytest
from distributed import Worker
from distributed.core import Status

from perennial.preloads import retiring
from perennial.preloads.parking import unpark
from perennial.preloads.retiring import move
from tests.preloads.in_process import MANAGED, Cluster, in_a_loop, received, started

KEYS = 30
OFTEN = {"distributed.scheduler.active-memory-manager.interval": "100ms"}


async def with_data(cluster: Cluster, count: int) -> tuple[list[Worker], dict[str, Any]]:
    """Start workers that hold some keys each; give them, and the futures."""
    workers = [await cluster.worker(f"leaves-{n}") for n in range(count)]
    futures = {}
    for worker in workers:
        values = {f"{worker.name}-{n}": bytes([n]) * 10_000 for n in range(KEYS)}
        futures |= await cluster.client.scatter(values, workers=[worker.address])
    return workers, futures


async def staying(cluster: Cluster, *names: str) -> list[Worker]:
    """Start workers that take over, and wait until the scheduler has heard of it."""
    workers = [await cluster.worker(name) for name in names]
    states = [cluster.scheduler.workers[worker.address] for worker in workers]
    await cluster.until(lambda: cluster.scheduler.running.issuperset(states))
    return workers


async def deaf(cluster: Cluster) -> None:
    """Start a worker that is asked for copies and fetches none."""
    (worker,) = await staying(cluster, "deaf")
    worker.stream_handlers["acquire-replicas"] = lambda **_: None


def held(cluster: Cluster, workers: Collection[Worker]) -> int:
    states = cluster.scheduler.workers
    return sum(len(states[worker.address].has_what) for worker in workers)


def policies(cluster: Cluster) -> list[retiring.Retiring]:
    """What a drain has put into the memory manager, and is still there."""
    found = cluster.scheduler.extensions["amm"].policies
    return [each for each in found if isinstance(each, retiring.Retiring)]


async def moved(cluster: Cluster, leaving: Collection[Worker]) -> list[bool]:
    moves = [move(worker.address, cluster.scheduler) for worker in leaving]
    return await asyncio.wait_for(asyncio.gather(*moves), 60)


@in_a_loop
async def test_workers_that_leave_together_send_each_key_once() -> None:
    with dask.config.set(MANAGED):
        async with started(preloaded=False) as cluster:
            leaving, futures = await with_data(cluster, 4)
            stay = await staying(cluster, "a", "b", "c")
            assert await moved(cluster, leaving) == [True] * 4
            assert held(cluster, leaving) == 0
            found = received(stay)
            assert len(found) == 4 * KEYS
            assert set(found.values()) == {1}
            # Each takes its share.
            shares = [held(cluster, [worker]) for worker in stay]
            assert max(shares) - min(shares) <= KEYS
            assert {future.status for future in futures.values()} == {"finished"}
            # Nothing of it stays behind in the scheduler.
            assert policies(cluster) == []


@pytest.mark.parametrize("gone", [False, True])
def test_another_worker_is_asked_where_one_does_not_fetch(
    gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "STUCK", 600.0 if gone else 0.5)

    @in_a_loop
    async def run() -> None:
        with dask.config.set(OFTEN):
            async with started(preloaded=False) as cluster:
                (leaves,), futures = await with_data(cluster, 1)
                (other,) = await staying(cluster, "other")
                asked: list[Any] = []

                def hear(**message: Any) -> None:
                    asked.append(message)

                other.stream_handlers["acquire-replicas"] = hear
                going = asyncio.create_task(moved(cluster, [leaves]))
                await cluster.until(lambda: asked)
                (stays,) = await staying(cluster, "stays")
                if gone:
                    await other.close()
                assert await going == [True]
                assert held(cluster, [leaves]) == 0
                assert set(received([stays]).values()) == {1}
                assert len(received([stays])) == len(futures)

    run()


@in_a_loop
async def test_a_worker_that_stays_after_all_keeps_its_data() -> None:
    async with started(preloaded=False) as cluster:
        (leaves,), futures = await with_data(cluster, 1)
        await deaf(cluster)
        state = cluster.scheduler.workers[leaves.address]
        going = [asyncio.create_task(moved(cluster, [leaves])) for _ in range(2)]
        # The worker hears that it leaves, too: it could not say otherwise that it stays.
        await cluster.until(lambda: leaves.status == Status.closing_gracefully)
        assert len(policies(cluster)) == 1
        assert unpark(leaves) == "running"
        await cluster.until(lambda: state.status == Status.running)
        assert [await each for each in going] == [[False], [False]]
        assert policies(cluster) == []
        assert held(cluster, [leaves]) == len(futures)


@in_a_loop
async def test_data_that_is_released_on_its_way_is_not_waited_for() -> None:
    with dask.config.set(OFTEN):
        async with started(preloaded=False) as cluster:
            (leaves,), futures = await with_data(cluster, 1)
            await deaf(cluster)
            going = asyncio.create_task(moved(cluster, [leaves]))
            await cluster.until(lambda: policies(cluster) and policies(cluster)[0].recipients)
            (policy,) = policies(cluster)
            await cluster.client.cancel(list(futures.values()))
            assert await going == [True]
            policy._look()
            assert policy.recipients == {}


@in_a_loop
async def test_many_that_leave_together_do_not_keep_the_scheduler_from_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look at all of them, as often as one begins or ends, would."""
    looks: list[str] = []
    run = retiring.Retiring.run

    def counted(self: retiring.Retiring) -> Any:
        looks.append(self.address)
        return run(self)

    monkeypatch.setattr(retiring.Retiring, "run", counted)
    never = {"distributed.scheduler.active-memory-manager.interval": "1 hour"}
    with dask.config.set(MANAGED | never):
        async with started(preloaded=False) as cluster:
            leaving, futures = await with_data(cluster, 16)
            stay = await staying(cluster, "a", "b")
            addresses = [worker.address for worker in leaving]
            alone, others = addresses[0], addresses[1:]
            moves = [retiring.move(alone, cluster.scheduler)]
            moves += [retiring.move_all(others, cluster.scheduler)]
            assert await asyncio.gather(*moves) == [True, others]
            # Once when they begin, and some times while they end, of 16.
            assert sorted(looks[:16]) == sorted(addresses)
            assert len(looks) < 16 * 16 / 2
            assert received(stay) == Counter(list(futures))
            shares = [held(cluster, [worker]) for worker in stay]
            assert max(shares) - min(shares) <= KEYS


@in_a_loop
async def test_without_a_memory_manager_one_is_there_as_long_as_it_takes() -> None:
    with dask.config.set({"distributed.scheduler.active-memory-manager.start": False}):
        async with started(preloaded=False) as cluster:
            leaving, futures = await with_data(cluster, 2)
            (stays,) = await staying(cluster, "stays")
            before = set(cluster.scheduler.periodic_callbacks)
            assert await moved(cluster, leaving) == [True, True]
            assert set(cluster.scheduler.periodic_callbacks) == before
            assert held(cluster, leaving) == 0
            assert received([stays]) == Counter(list(futures))


@in_a_loop
async def test_with_nobody_who_could_take_it_nothing_moves() -> None:
    async with started(preloaded=False) as cluster:
        leaving, futures = await with_data(cluster, 1)
        assert await moved(cluster, leaving) == [False]
        assert held(cluster, leaving) == len(futures)
        assert await move("tcp://127.0.0.1:9", cluster.scheduler)  # nobody holds anything there


@in_a_loop
async def test_a_worker_that_goes_in_the_middle_is_not_waited_for() -> None:
    async with started(preloaded=False) as cluster:
        (leaves,), futures = await with_data(cluster, 1)
        await deaf(cluster)
        going = asyncio.create_task(moved(cluster, [leaves]))
        await asyncio.sleep(0.2)
        assert not going.done()
        await leaves.close()
        await going
        assert {future.status for future in futures.values()} == {"cancelled"}
        assert policies(cluster) == []
