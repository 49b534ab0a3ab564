"""What is counted is what is there, whatever happens: real schedulers and workers."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from distributed import Nanny
from distributed.core import Status
from distributed.scheduler import TaskGroup, TaskPrefix, TaskState

from perennial.preloads import counting
from perennial.preloads import demand as preload
from perennial.preloads.members import Workers
from tests.preloads.in_process import Cluster, failing, in_a_loop, seceding, short, started


class Operations:
    """What can happen to a cluster, at random."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster = cluster
        self.chance = chance
        self.futures: list[Any] = []
        self.number = 0

    async def submit(self) -> None:
        chance, client = self.chance, self.cluster.client
        options: dict[str, Any] = {}
        if chance.random() < 0.3:
            options["resources"] = {chance.choice("AB"): chance.choice([1, 2, 9])}
        if chance.random() < 0.2:
            options["workers"] = [chance.choice(["cpu-0", "gpu-0-0", "nobody"])]
            # Both together make Dask forget the resources, and fail.
            options["allow_other_workers"] = "resources" not in options and chance.random() < 0.3
        function = chance.choice([short, short, short, failing, seceding])
        inputs = chance.sample(self.futures, min(len(self.futures), chance.choice([0, 0, 1, 3])))
        for _ in range(chance.choice([1, 5, 40])):
            seconds = chance.choice([0, 0, 0.01, 0.05])
            future = client.submit(function, seconds, *inputs, pure=False, **options)
            self.futures.append(future)

    async def scatter(self) -> None:
        if self.cluster.scheduler.running:
            data = await self.cluster.client.scatter(b"x" * self.chance.randrange(9999), hash=False)
            self.futures.append(data)

    async def forget(self) -> None:
        for _ in range(self.chance.choice([1, 20, 100])):
            if self.futures:
                self.futures.pop(self.chance.randrange(len(self.futures)))

    async def cancel(self) -> None:
        if self.futures:
            chosen = self.chance.sample(self.futures, min(5, len(self.futures)))
            await self.cluster.client.cancel(chosen)
            gone = {future.key for future in chosen}
            self.futures = [future for future in self.futures if future.key not in gone]

    async def come(self) -> None:
        self.number += 1
        group = self.chance.choice(["cpu", "gpu", "gpu-large"])
        resources = self.chance.choice([None, {"A": 1}, {"A": 2, "B": 2}])
        name = f"{group}-{self.number}"
        if self.chance.random() < 0.5:
            await self.cluster.member(group, name, resources=resources)
        else:
            await self.cluster.worker(name, resources=resources, nthreads=2)

    async def go(self) -> None:
        if self.cluster.workers:
            worker = self.cluster.workers.pop(self.chance.randrange(len(self.cluster.workers)))
            if self.chance.random() < 0.5:
                await worker.close()
            else:
                await self.cluster.scheduler.remove_worker(
                    worker.address, stimulus_id="test", expected=False
                )
                await worker.close(executor_wait=False)

    async def park(self) -> None:
        if self.cluster.workers:
            worker = self.chance.choice(self.cluster.workers)
            await self.cluster.scheduler.retire_workers(
                workers=[worker.address], close_workers=False, remove=False, stimulus_id="test"
            )

    async def pause(self) -> None:
        if self.cluster.workers:
            worker = self.chance.choice(self.cluster.workers)
            if worker.status in (Status.running, Status.paused):
                worker.status = self.chance.choice([Status.running, Status.paused])

    async def wait(self) -> None:
        await asyncio.sleep(self.chance.choice([0, 0.01, 0.1]))

    async def restart(self) -> None:
        if self.chance.random() < 0.1:
            self.futures.clear()
            scheduler = self.cluster.scheduler
            scheduler.client_releases_keys(
                [ts.key for ts in scheduler.clients[self.cluster.client.id].wants_what],
                self.cluster.client.id,
                "test",
            )
            self.cluster.plugin.restart(scheduler)

    async def any(self) -> None:
        often = (self.submit, self.submit, self.wait, self.wait, self.forget)
        rare = (self.scatter, self.cancel, self.come, self.go, self.park, self.pause)
        await self.chance.choice((*often, *often, *rare, self.come, self.restart))()


@pytest.mark.parametrize("seed", range(2))
@in_a_loop
async def test_counts_are_what_a_look_at_every_task_would_find(seed: int) -> None:
    async with started() as cluster:
        operations = Operations(cluster, random.Random(seed))
        cluster.ask(groups={"cpu": 1, "gpu": 1, "gpu-large": 1})
        await cluster.worker("cpu-0", nthreads=2)
        for _ in range(150):
            await operations.any()
            cluster.check()
            if operations.chance.random() < 0.2:
                cluster.ask()
                cluster.check()
        assert cluster.scheduler.transition_counter > 500


@in_a_loop
async def test_added_late_it_counts_what_there_is() -> None:
    async with started(preloaded=False) as cluster:
        await cluster.member("cpu", "cpu-0", resources={"A": 1})
        futures = cluster.client.map(short, [0.5] * 20, pure=False)
        futures += cluster.client.map(short, [0.5] * 5, resources={"B": 1}, pure=False)
        futures.append(cluster.client.submit(seceding, 1, resources={"A": 1}))
        await cluster.until(lambda: len(cluster.scheduler.unrunnable) == 5)
        await cluster.until(lambda: any(w.long_running for w in cluster.scheduler.workers.values()))
        await asyncio.sleep(0.2)
        preload.dask_setup(cluster.scheduler)
        cluster.check()
        assert cluster.work(("B", 1.0))["oldest"] >= 0.2
        await cluster.client.cancel(futures)
        await cluster.until(lambda: not cluster.ask()["work"])
        cluster.check()


@in_a_loop
async def test_a_restart_by_a_user_starts_from_nothing() -> None:
    async with started() as cluster, Nanny(cluster.scheduler.address, name="cpu-0", nthreads=1):
        futures = cluster.client.map(short, [0.2] * 50, pure=False)
        await cluster.until(lambda: cluster.ask()["work"])
        await cluster.client.restart()
        assert cluster.ask()["work"] == []
        cluster.check()
        assert await cluster.client.submit(short, 0) == 0
        cluster.check()
        del futures


@in_a_loop
async def test_counts_that_are_zero_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "COUNTS", 10)
    async with started() as cluster:
        await cluster.member("cpu", "cpu-0", resources={f"R{i}": 1 for i in range(40)})
        for index in range(40):  # nobody asks meanwhile
            await cluster.client.submit(short, 0, resources={f"R{index}": 1}, pure=False)
        assert len(cluster.plugin.counts.kinds) < 20
        cluster.check()


@in_a_loop
async def test_the_scheduler_lives_on_when_its_counters_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with started() as cluster:
        await cluster.member("cpu", "cpu-0")
        monkeypatch.setattr(cluster.plugin.counts, "enter", lambda *_: 1 / 0)
        futures = cluster.client.map(short, [0] * 50, pure=False)
        assert await cluster.client.gather(futures) == [0] * 50
        await cluster.member("cpu", "cpu-1")
        logged = [r for r in caplog.records if r.name == "distributed.perennial.demand"]
        assert len(logged) == 1
        assert "ZeroDivisionError" in cluster.plugin.fault
        monkeypatch.setattr(cluster.plugin, "_recounted", time.monotonic())
        answer = cluster.ask()
        assert "division by zero" in answer["fault"]
        assert "work" not in answer
        assert cluster.plugin.take_request({"kind": "pause"})
        # When so much time has passed, it counts anew.
        monkeypatch.setattr(cluster.plugin, "_recounted", -preload.RETRY)
        assert cluster.ask()["fault"] == ""
        assert cluster.ask()["groups"]["cpu"]["members"] == 2
        cluster.check()
        assert await cluster.client.submit(short, 0) == 0
        cluster.check()


@in_a_loop
async def test_a_failure_with_very_many_tasks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with started() as cluster:
        monkeypatch.setattr(preload, "RECOUNT", 5)
        futures = cluster.client.map(short, [0] * 10, pure=False)
        await cluster.until(lambda: len(cluster.scheduler.tasks) == 10)
        cluster.plugin.fail(RuntimeError("something"))
        assert "RuntimeError: something" in cluster.ask()["fault"]
        del futures


def test_what_is_kept_of_ever_new_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and needs of every task are new, and nobody asks: the counts that are zero go."""
    monkeypatch.setattr(counting, "COUNTS", 500)
    counts = counting.Counts(Workers())
    most = 0
    for number in range(5_000):
        group = TaskGroup(f"name{number}", TaskPrefix(f"name{number}"))
        task = TaskState(f"name{number}-0", None, "waiting", group, True)
        if number % 2:
            task.resource_restrictions = {f"thing{number}": 1}
        if number % 3 == 0:
            task.worker_restrictions = {f"tcp://{number}"}
        counts.enter(task.key, task, "waiting")
        counts.leave(task.key)
        if number % 100 == 0:
            sums = [each for kind in counts.kinds.values() for each in kind.sums]
            kept = sum(len(each.counts) for each in sums)
            most = max(most, kept, len(sums), len(counts.kinds))
    assert most <= 500
    assert not any((counts.places, counts.runs, counts.bound, counts.binds))
    counts.look_at_all()
    assert counts.kinds == {((), False): counts.plain}
    assert not counts.plain.sums
