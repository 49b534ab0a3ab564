"""A scheduler and workers that have nothing of ours: their demand, and their drains."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from distributed import Scheduler, Worker

from perennial.fleet import FixedFleet
from perennial.scaler.adopted import AdoptedSource, AdoptedWorkers, ByHost
from perennial.scaler.demand import SchedulerAway
from perennial.scaler.drain import Drains
from perennial.scaler.drain_state import Drain
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.settings import parse
from perennial.scaler.values import PARKED, Demand
from perennial.scaler.workers import RUNNING
from tests.ports import free_port
from tests.preloads.conftest import Lab, made, until

CPU, GPU = ("127.0.0.2", "127.0.0.3"), ("127.0.0.4",)


@pytest.fixture
def foreign() -> Iterator[tuple[Lab, str]]:
    """A scheduler, and workers as the Helm chart starts them: without names and preloads."""
    with made() as lab:
        dashboard = f"127.0.0.1:{free_port()}"
        where = ("--host", "tcp://127.0.0.1", "--port", str(lab.port))
        lab.start("scheduler", "scheduler", *where, "--dashboard-address", dashboard)
        until(lab.answers, "the scheduler answers")
        for host in (*CPU, *GPU):
            more = ("--nworkers", "2") if host in GPU else ()
            lab.start(
                host,
                *("worker", lab.address, "--host", host, "--nthreads", "1", "--no-dashboard"),
                *("--memory-limit", "1 GiB", "--local-directory", str(lab.folder / host), *more),
            )
        yield lab, dashboard


async def asked(lab: Lab, dashboard: str) -> tuple[AdoptedSource, AdoptedWorkers, ByHost]:
    fleets = {
        name: FleetClient(name, lambda hosts=hosts: FixedFleet(hosts), monotonic)  # type: ignore[misc]
        for name, hosts in (("cpu", CPU), ("gpu", GPU))
    }
    for fleet in fleets.values():
        await fleet.observe()
    whose = ByHost(fleets)
    workers = AdoptedWorkers(lab.address, whose)
    return AdoptedSource(dashboard, workers, monotonic), workers, whose


async def until_seen(source: AdoptedSource, right: Callable[[Demand], object]) -> Demand:
    end = monotonic() + 60
    while True:
        demand, _ = await source.read()
        if right(demand):
            return demand
        assert monotonic() < end, demand
        await asyncio.sleep(0.1)


def test_groups_are_told_apart_by_host_and_idle_members_are_known(
    foreign: tuple[Lab, str],
) -> None:
    lab, dashboard = foreign
    client = lab.client(4)

    async def read() -> None:
        source, _, _ = await asked(lab, dashboard)
        demand = await until_seen(source, lambda demand: len(demand.groups) == 2)
        assert set(demand.groups["cpu"].names) == set(CPU)
        assert demand.groups["gpu"].names == GPU
        assert demand.groups["gpu"].members == 1
        detail = demand.groups["gpu"].detail
        assert detail is not None
        assert detail[GPU[0]].processes == 2
        assert detail[GPU[0]].status == RUNNING
        futures = client.map(time.sleep, [0.1] * 400, pure=False, workers=[CPU[0]])
        demand = await until_seen(source, lambda demand: demand.groups["cpu"].busy == 1)
        assert demand.work[0].processing["cpu"].tasks > 0
        assert demand.partial.startswith("the scheduler is not ours")
        # The page of workers fails while they work, and yet who is idle is known.
        idle = await until_seen(source, lambda d: d.groups["cpu"].detail[CPU[1]].idle > 1.0)  # type: ignore[index]
        assert idle.groups["cpu"].detail is not None
        assert idle.groups["cpu"].detail[CPU[0]].idle == 0.0
        client.cancel(futures)
        await until_seen(source, lambda d: d.groups["cpu"].detail[CPU[0]].idle > 0.5)  # type: ignore[index]
        await source.close()

    asyncio.run(read())


def test_a_member_is_drained_and_brought_back_with_nothing_of_ours_in_it(
    foreign: tuple[Lab, str],
) -> None:
    lab, dashboard = foreign
    client = lab.client(4)
    first = CPU[0]

    def address(host: str) -> str:
        return next(at for at in client.ncores() if f"//{host}:" in at)

    kept = client.scatter({"kept": 1}, workers=[address(first)])
    running = client.submit(time.sleep, 2, key="running", workers=[first], allow_other_workers=True)
    until(lambda: client.processing()[address(first)], "it runs")
    # More than it can run: what waits there must not stay there.
    waiting = client.map(time.sleep, [0.01] * 20, pure=False, workers=[address(first)])
    waiting += client.map(
        time.sleep, [0.01] * 5, pure=False, workers=[first], allow_other_workers=True
    )

    async def drain() -> None:
        _, workers, _ = await asked(lab, dashboard)
        drains = Drains(workers, monotonic)
        rounds = asyncio.create_task(drains.run())
        drains.begin(Drain("cpu", first, monotonic(), 60.0))
        drain = drains.drains["cpu", first]
        client.cancel(waiting[:20])
        end = monotonic() + 60
        while not drains.tracker.drained(drain) and not drain.stays:
            assert monotonic() < end, drain
            await asyncio.sleep(0.05)
        assert drain.stays == ""
        assert (await workers.find([("cpu", first)]))["cpu", first].statuses == {
            address(first): PARKED
        }
        assert running.status == "finished"
        assert set(client.who_has([kept["kept"]])["kept"]) - {address(first)}
        drains.bring_back([("cpu", first)])
        while ("cpu", first) in drains.returning:
            assert monotonic() < end
            await asyncio.sleep(0.05)
        rounds.cancel()
        await drains.close()
        await workers.close()

    asyncio.run(drain())
    client.gather(waiting[20:])
    assert client.submit(lambda: 7, workers=[address(first)], pure=False).result(30) == 7
    modules = client.run(lambda: [name for name in sys.modules if name.startswith("perennial")])
    assert set(map(tuple, modules.values())) == {()}


def test_a_scheduler_that_is_away_is_one_line() -> None:
    async def read() -> None:
        workers = AdoptedWorkers(f"tcp://127.0.0.1:{free_port()}", ByHost({}))
        source = AdoptedSource(f"127.0.0.1:{free_port()}", workers, monotonic)
        with pytest.raises(SchedulerAway, match=r"does not answer /json/counts.json .*asks again$"):
            await source.read()
        await workers.close()

    asyncio.run(read())


class Early(Scheduler):
    """A scheduler of an earlier release, whose `identity` takes no argument."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.handlers["identity"] = self._identity

    def _identity(self) -> Any:
        return self.identity()


def test_all_workers_of_an_earlier_scheduler_are_named() -> None:
    async def ask() -> None:
        async with Early(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as early:
            workers = AdoptedWorkers(early.address, ByHost({}))
            crowd = [await Worker(early.address, name=str(n), nthreads=1) for n in range(8)]
            assert len((await workers.identity())["workers"]) == 8
            assert await workers.find([("", "127.0.0.1")])
            await workers.close()
            for each in crowd:
                await each.close()

    asyncio.run(ask())


def test_an_adopted_cluster_needs_a_dashboard() -> None:
    least = {"cluster": "a", "platform": "memory", "scheduler": "tcp://h:1", "state": "/s"}
    found = parse({**least, "groups": [], "adopted": True, "http": "h:80"})
    assert found.adopted
    with pytest.raises(Exception, match="http: found nothing; allowed: host:port"):
        parse({**least, "groups": [], "adopted": True})
