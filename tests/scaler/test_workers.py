"""What a drain asks of Dask, of schedulers with our preload and without."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import dask
import pytest

from perennial.preloads import demand
from perennial.scaler.workers import PARKED, RUNNING, DaskWorkers, Found, Left
from tests.preloads.in_process import MANAGED, Cluster, in_a_loop, received, started

GROUPS = {"cpu": 1, "pair": 2}

#: Set when the task has run for long enough; worker and test are one process.
ENOUGH = threading.Event()


def run() -> bool:
    return ENOUGH.wait(60)


@in_a_loop
async def test_the_preload_tells_the_same_as_dask() -> None:
    async with started() as cluster:
        first = await cluster.member("cpu", "cpu-0")
        second = await cluster.member("cpu", "cpu-1")
        pair = [await cluster.member("pair", f"pair-0-{n}", processes=2) for n in range(2)]
        scatter = cluster.client.scatter
        kept = [
            await scatter({"both": 1}, workers=[first.address, second.address], broadcast=True),
            await scatter({"first": 1}, workers=[first.address]),
            await scatter({"pair": 1}, workers=[pair[0].address, pair[1].address], broadcast=True),
        ]
        busy = cluster.client.submit(run, workers=[second.address], key="busy", pure=False)
        await cluster.until(lambda: bool(cluster.scheduler.workers[second.address].processing))
        told = DaskWorkers(cluster.scheduler.address, GROUPS)
        plain = DaskWorkers(cluster.scheduler.address, GROUPS)
        plain._without = float("inf")
        everybody = [("cpu", "cpu-0"), ("cpu", "cpu-1"), ("pair", "pair-0"), ("cpu", "cpu-9")]
        addresses = {each.address for each in (first, second, *pair)}
        gone = "tcp://127.0.0.1:9"
        for who in ([], everybody[:1], everybody):
            found = await told.find(who)
            assert found == await plain.find(who)
            assert found.keys() == set(who) - {("cpu", "cpu-9")}
        for leaving in ([first.address], [*addresses, gone], [pair[0].address]):
            found_left = await told.left([*addresses, gone], leaving)
            assert found_left == await plain.left([*addresses, gone], leaving)
            assert found_left.keys() == addresses
        left = await told.left([first.address, second.address], [first.address])
        assert left[first.address] == Left((), 2, ("first",))
        assert left[second.address] == Left(("busy",), 1, ())
        await told.park([second.address])
        await cluster.until(lambda: cluster.scheduler.workers[second.address].status.name == PARKED)
        for workers in (told, plain):  # who is parked is as good as gone
            assert (await workers.left([first.address], []))[first.address].unique == ()
            [(_, found_one)] = (await workers.find([("cpu", "cpu-1")])).items()
            assert found_one == Found({second.address: PARKED})
            both = await workers.left([first.address], [first.address])
            assert both[first.address].unique == ("both", "first")
        await told.unpark([second.address])
        await cluster.client.cancel([busy])
        ENOUGH.set()
        await told.close()
        await plain.close()
        del kept


@in_a_loop
async def test_where_the_counters_have_stopped_dask_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with started() as cluster:
        first = await cluster.member("cpu", "cpu-0")
        workers = DaskWorkers(cluster.scheduler.address, GROUPS)
        asked: list[str] = []
        ask = workers._ask

        async def noted(operation: str, *given: Any, **arguments: Any) -> Any:
            asked.append(operation)
            return await ask(operation, *given, **arguments)

        monkeypatch.setattr(workers, "_ask", noted)
        who = [("cpu", "cpu-0")]
        expected = {("cpu", "cpu-0"): Found({first.address: RUNNING})}
        assert await workers.find(who) == expected
        assert asked == ["perennial_members"]
        cluster.plugin.fault = "stopped, for a test"
        assert await workers.find(who) == expected
        assert await workers.find(who) == expected
        assert asked[1:] == ["perennial_members", "identity", "identity"]
        await workers.close()
        cluster.plugin.fault = ""
        await asyncio.sleep(0)


@in_a_loop
async def test_of_very_many_keys_some_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from perennial.preloads import leaving

    monkeypatch.setattr(leaving, "NAMES", 10)

    async def filled(cluster: Cluster) -> None:
        first = await cluster.member("cpu", "cpu-0")
        data = await cluster.client.scatter({f"key-{n}": n for n in range(50)})
        workers = DaskWorkers(cluster.scheduler.address, GROUPS)
        left = await workers.left([first.address], [first.address])
        assert left[first.address].held == 50
        assert len(left[first.address].unique) == 10
        await workers.close()
        del data

    async with started() as cluster:
        await filled(cluster)


@in_a_loop
async def test_drains_that_begin_one_after_the_other_send_each_key_once() -> None:
    with dask.config.set(MANAGED):
        async with started() as cluster:
            leave = [await cluster.member("cpu", f"cpu-{n}") for n in range(4)]
            stay = [await cluster.member("cpu", f"cpu-{n}") for n in (8, 9)]
            futures = {}
            for worker in leave:
                values = {f"{worker.name}-{n}": bytes([n]) * 10_000 for n in range(30)}
                futures |= await cluster.client.scatter(values, workers=[worker.address])
            workers = DaskWorkers(cluster.scheduler.address, GROUPS)
            await workers.park([each.address for each in leave])  # none takes over from another
            moves = []
            for worker in leave:
                moves.append(asyncio.create_task(workers.move([worker.address])))
                await asyncio.sleep(0)
            # Whoever asks again, as after an answer that was lost, waits for the same.
            again = await workers.move([each.address for each in leave])
            assert again == {each.address for each in leave}
            assert [await each for each in moves] == [{each.address} for each in leave]
            assert received(stay) == Counter(list(futures))
            assert not any(worker.data for worker in leave)
            await workers.close()


@in_a_loop
async def test_where_the_preload_cannot_move_data_dask_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def move_all(*_: Any) -> None:
        raise TypeError("of another release of Dask")

    monkeypatch.setattr(demand, "move_all", move_all)
    async with started() as cluster:
        leaves, stays = [await cluster.member("cpu", name) for name in ("cpu-0", "cpu-1")]
        kept = await cluster.client.scatter({"key": 1}, workers=[leaves.address])
        workers = DaskWorkers(cluster.scheduler.address, GROUPS)
        for _ in range(2):
            assert await workers.move([leaves.address]) == {leaves.address}
        assert stays.address in (await cluster.client.who_has())["key"]
        assert caplog.text.count("cannot move data as usual: TypeError('of another release") == 1
        await workers.close()
        del kept


@in_a_loop
async def test_a_scheduler_without_the_preload_moves_data_by_itself() -> None:
    async with started(preloaded=False) as cluster:
        leaves, stays = [await cluster.worker(name) for name in ("cpu-0", "cpu-1")]
        kept = await cluster.client.scatter({"key": 1}, workers=[leaves.address])
        workers = DaskWorkers(cluster.scheduler.address, GROUPS)
        gone = "tcp://127.0.0.1:9"
        assert await workers.move([leaves.address, gone]) == {leaves.address}
        assert stays.address in (await cluster.client.who_has())["key"]
        await workers.close()
        del kept
