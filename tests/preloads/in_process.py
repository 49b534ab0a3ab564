"""A scheduler with the preload, workers and a client in the process of a test."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import dask
import msgpack
import pytest
from distributed import Client, Scheduler, Worker, secede

from perennial.preloads import member as member_preload
from perennial.preloads.counting import LIVE, needs_of
from perennial.preloads.demand import DemandPlugin

#: Generous: the machine may be busy with other things.
PATIENCE = 60

#: In one process, with nothing that takes its time.
QUIET = {
    "distributed.scheduler.work-stealing-interval": "20ms",
    "distributed.worker.memory.terminate": False,
    "distributed.comm.timeouts.connect": PATIENCE,
    # Both ends are this process. On a busy machine its loop may get no turn for half a minute; the
    # kernel then ends the connection (ETIMEDOUT, by TCP_USER_TIMEOUT), and the client its futures.
    "distributed.comm.timeouts.tcp": "1 hour",
}

#: Sizes alone say whose turn it is: all workers are one process here.
MANAGED = {"distributed.scheduler.active-memory-manager.measure": "managed"}


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with dask.config.set(QUIET):
            asyncio.run(asyncio.wait_for(test(*args, **kwargs), 4 * PATIENCE))

    return run


def received(workers: Collection[Worker]) -> Counter[str]:
    """How often each key has come to any of the workers."""
    logs = [entry for worker in workers for entry in worker.transfer_incoming_log]
    return Counter(str(key) for entry in logs for key in entry["keys"])


class Cluster:
    """A scheduler with the preload, workers and a client in this process."""

    def __init__(self, scheduler: Scheduler, client: Client) -> None:
        self.scheduler = scheduler
        self.client = client
        self.workers: list[Worker] = []

    @property
    def plugin(self) -> DemandPlugin:
        found: DemandPlugin = self.scheduler.plugins[DemandPlugin.name]
        return found

    async def worker(self, name: str, nthreads: int = 1, **more: Any) -> Worker:
        worker = Worker(self.scheduler.address, name=name, nthreads=nthreads, **more)
        self.workers.append(worker)
        with dask.config.set({"perennial.group": None}):
            return await worker

    async def member(self, group: str, name: str, processes: int = 1, **more: Any) -> Worker:
        worker = Worker(self.scheduler.address, name=name, **more)
        self.workers.append(worker)
        with dask.config.set({"perennial": {"group": group, "processes": processes}}):
            member_preload.dask_setup(worker)
            return await worker

    def ask(self, **question: Any) -> dict[str, Any]:
        """Ask as over the wire: what cannot be sent fails."""
        answer = self.plugin.demand(**question)
        sent: dict[str, Any] = msgpack.unpackb(msgpack.packb(answer), strict_map_key=False)
        return sent

    def work(self, *resources: tuple[str, float], pinned: bool = False) -> dict[str, Any]:
        for entry in self.ask()["work"]:
            if entry["resources"] == [list(x) for x in resources] and entry["pinned"] == pinned:
                found: dict[str, Any] = entry
                return found
        return {}

    def check(self) -> None:
        """Compare the counts with a look at every task and every worker."""
        plugin, scheduler = self.plugin, self.scheduler
        assert plugin.fault == ""
        expected: Counter[Any] = Counter()
        for task in scheduler.tasks.values():
            if task.state not in LIVE:
                continue
            group, worker = "", task.processing_on
            if worker is not None:
                if task in worker.long_running:
                    continue
                group = plugin.workers.belongs(worker)[0]
            place = group if task.state == "processing" else task.state
            expected[needs_of(task), place, task.prefix.name] += 1
        found: Counter[Any] = Counter()
        for needs, kind in plugin.counts.kinds.items():
            for sums in (kind.held, kind.given):
                for place, each in sums.items():
                    for prefix, count in each.counts.items():
                        found[needs, place, prefix.name] += count.tasks
                    assert each.tasks == sum(count.tasks for count in each.counts.values())
                    known = [c for c in each.counts.values() if c.seconds >= 0]
                    assert each.seconds == pytest.approx(sum(c.tasks * c.seconds for c in known))
                    assert each.unknown == each.tasks - sum(count.tasks for count in known)
        assert +found == expected
        bound = Counter(
            next(iter(task.worker_restrictions))
            for task in scheduler.tasks.values()
            if task.state in LIVE - {"processing"} and needs_of(task)[1]
            if len(task.worker_restrictions or ()) == 1
        )
        assert plugin.counts.binds == bound
        waits = sum(len(kind.waits) for kind in plugin.counts.kinds.values())
        assert waits == len(scheduler.unrunnable)
        assert set(plugin.workers.processes) == set(scheduler.workers)
        self.check_workers()

    def check_workers(self) -> None:
        workers = self.plugin.workers
        workers.look_at_all()
        for group in workers.groups.values():
            states = [
                [process.worker for process in member.processes.values()]
                for member in group.members.values()
            ]
            assert all(states)
            assert group.busy == sum(any(w.processing for w in each) for each in states)
            parked = [m for m in group.members.values() if m.status == "closing_gracefully"]
            assert group.parked == set(parked)
            everyone = [worker for each in states for worker in each]
            assert group.limit == sum(worker.memory_limit for worker in everyone)
            assert group.nbytes == sum(worker.nbytes for worker in everyone)
            assert group.memory == sum(worker.metrics["memory"] for worker in everyone)
            for process in workers.processes.values():
                assert process.tasks == len(process.worker.processing)

    async def until(self, found: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while not (result := found()):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        return result


@asynccontextmanager
async def started(preloaded: bool = True) -> AsyncIterator[Cluster]:
    modules = ["perennial.preloads.demand"] if preloaded else []
    async with (
        Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", preload=modules
        ) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        cluster = Cluster(scheduler, client)
        try:
            yield cluster
        finally:
            await asyncio.gather(*(worker.close() for worker in cluster.workers))


def short(seconds: float, *inputs: Any) -> float:
    time.sleep(seconds)
    return seconds


def failing(seconds: float, *inputs: Any) -> float:
    time.sleep(seconds)
    raise RuntimeError


def seceding(seconds: float, *inputs: Any) -> float:
    secede()
    time.sleep(seconds)
    return seconds
