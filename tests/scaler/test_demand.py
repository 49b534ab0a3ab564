"""The scaler reads what real schedulers say, and knows when they say nothing."""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Scheduler, Worker

from perennial import authority
from perennial.preloads import demand as preload
from perennial.preloads import member
from perennial.scaler import timing
from perennial.scaler.dashboard_demand import HttpSource, queued
from perennial.scaler.demand import (
    DemandUnknown,
    NoPreload,
    OtherVersion,
    PreloadSource,
    SchedulerAway,
    Source,
)
from perennial.scaler.sources import opened
from perennial.scaler.values import Demand, Load, MemberSeen, Signature
from perennial.tls import Tls
from tests import dask_processes
from tests.ports import free_port
from tests.preloads.conftest import Lab, made

PATIENCE = 60
GROUPS = {"cpu": 1, "gpu": 1}
PRELOAD = ("--preload", "perennial.preloads.demand")


async def until(source: Source, right: Callable[[Demand], Any], *detail: str) -> Demand:
    """Read until the demand is what it shall be."""
    end = time.monotonic() + PATIENCE
    while True:
        demand, _ = await source.read(detail)
        if right(demand):
            return demand
        assert time.monotonic() < end, demand
        await asyncio.sleep(0.1)


async def worker(scheduler: str, group: str, name: str, **more: Any) -> Worker:
    with dask.config.set({"perennial": {"group": group}}):
        started = Worker(scheduler, name=name, **more)
        member.dask_setup(started)
        return await started


def in_process(preloaded: bool = True) -> Scheduler:
    modules = ["perennial.preloads.demand"] if preloaded else []
    return Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", preload=modules)


def plugin(scheduler: Scheduler) -> preload.DemandPlugin:
    found: preload.DemandPlugin = scheduler.plugins[preload.DemandPlugin.name]
    return found


def test_demand_is_the_value_of_what_the_scheduler_says() -> None:
    async def read() -> None:
        async with (
            in_process() as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
            await worker(scheduler.address, "cpu", "cpu-0") as cpu,
            await worker(scheduler.address, "gpu", "gpu-0", resources={"GPU": 1}),
        ):
            source = PreloadSource(scheduler.address, GROUPS)
            data = await client.scatter(b"x" * 1000, workers=[cpu.address], hash=False)
            futures = client.map(time.sleep, [0.3] * 10, resources={"GPU": 1}, pure=False)
            futures += client.map(abs, range(4), resources={"FPGA": 2}, pure=False)
            demand = await until(source, lambda demand: len(demand.work) == 2, "cpu")
            assert demand.scheduler == scheduler.id
            assert demand.uptime > 0
            assert demand.clients == 1
            assert demand.partial == ""
            gpu, fpga = sorted(demand.work, key=lambda work: work.signature, reverse=True)
            assert gpu.signature == Signature((("GPU", 1.0),))
            assert gpu.processing["gpu"].tasks > 5
            assert fpga.signature == Signature((("FPGA", 2.0),))
            assert fpga.unrunnable == Load(4, 0.0, 4)
            assert fpga.queued == Load()
            cpu_seen, gpu_seen = demand.groups["cpu"], demand.groups["gpu"]
            assert (cpu_seen.members, cpu_seen.busy, cpu_seen.names) == (1, 0, ("cpu-0",))
            assert (gpu_seen.members, gpu_seen.busy, gpu_seen.names) == (1, 1, ("gpu-0",))
            assert gpu_seen.detail is None
            assert cpu_seen.detail is not None
            assert cpu_seen.nbytes >= 1000
            assert 0 < cpu_seen.memory < cpu_seen.limit
            seen = cpu_seen.detail["cpu-0"]
            assert isinstance(seen, MemberSeen)
            assert (seen.worker, seen.status, seen.processes) == ("cpu-0", "running", 1)
            assert (seen.processing, seen.unique) == (0, 1)
            assert seen.idle > 0
            await client.cancel(futures)
            del data
            await source.close()

    asyncio.run(read())


def test_names_are_kept_between_reads_and_forgotten_with_the_scheduler() -> None:
    async def read() -> None:
        async with in_process() as first:
            port = first.port
            source = PreloadSource(first.address, GROUPS)
            async with await worker(first.address, "cpu", "cpu-0"):
                demand = await until(source, lambda demand: "cpu" in demand.groups)
                async with await worker(first.address, "cpu", "cpu-1"):
                    await until(source, lambda d: d.groups["cpu"].names == ("cpu-0", "cpu-1"))
                await until(source, lambda d: d.groups["cpu"].names == ("cpu-0",))
        with pytest.raises(SchedulerAway, match="asks again"):
            await source.read()
        modules = ["perennial.preloads.demand"]
        async with Scheduler(
            host="127.0.0.1", port=port, dashboard_address="127.0.0.1:0", preload=modules
        ) as second:
            assert (await source.read())[0].groups == {}
            async with await worker(second.address, "cpu", "cpu-7"):
                again = await until(source, lambda d: "cpu" in d.groups)
                assert again.groups["cpu"].names == ("cpu-7",)
                assert again.scheduler != demand.scheduler
        await source.close()

    asyncio.run(read())


def test_wishes_come_until_they_are_acknowledged_and_reports_go() -> None:
    async def read() -> None:
        async with in_process() as scheduler:
            source = PreloadSource(scheduler.address, GROUPS)
            name = plugin(scheduler).take_request({"kind": "pause"})
            for _ in range(2):
                _, wishes = await source.read()
                assert [(wish["id"], wish["kind"]) for wish in wishes] == [(name, "pause")]
            _, wishes = await source.read(report={"time": 3.0}, acknowledged=[name])
            assert wishes == []
            assert plugin(scheduler).report()["report"] == {"time": 3.0}
            await source.close()

    asyncio.run(read())


def test_news_are_told_at_once_and_once() -> None:
    async def read() -> None:
        async with in_process() as scheduler:
            source = PreloadSource(scheduler.address, GROUPS)
            told: list[str] = []

            async def listen(what: str, act: Any) -> None:
                await source.read()
                listening = asyncio.create_task(source.wait_for_change())
                await asyncio.sleep(0.3)
                assert not listening.done(), what
                act()
                async with asyncio.timeout(timing.CHANGE / 2):
                    assert await listening, what
                told.append(what)

            await listen("a wish", lambda: plugin(scheduler).take_request({"kind": "pause"}))
            clients: list[Client] = []
            await listen(
                "a client", lambda: clients.append(Client(scheduler.address, asynchronous=True))
            )
            client = await clients[0]
            futures: list[Any] = []
            await listen("work", lambda: futures.append(client.submit(abs, 1, pure=False)))
            await source.read()
            listening = asyncio.create_task(source.wait_for_change())
            futures.append(client.submit(abs, 1, pure=False))  # more of the same waits its turn
            await asyncio.sleep(0.5)
            assert not listening.done()
            needs = client.submit(abs, 1, resources={"GPU": 1}, pure=False)  # of another kind
            async with asyncio.timeout(timing.CHANGE / 2):
                assert await listening
            assert told == ["a wish", "a client", "work"]
            await client.cancel([*futures, needs])
            await source.close()
            await client.close()

    asyncio.run(read())


@pytest.mark.parametrize(
    ("needs", "resources", "threads", "least"),
    [({"GPU": 1}, {"GPU": 1}, 1, 2), ({"GPU": 1}, {"GPU": 1}, 8, 2), (None, None, 2, 5)],
)
def test_more_work_than_members_can_do_is_told_at_once(
    needs: Any, resources: Any, threads: int, least: int, tmp_path: Path
) -> None:
    """The scheduler holds none of it back: each task is with a worker, and waits there."""
    slow = tmp_path / "slow"

    def wait(number: int) -> None:
        while not slow.exists():
            time.sleep(0.02)

    async def read() -> None:
        with dask.config.set({"distributed.scheduler.worker-saturation": float("inf")}):
            async with (
                in_process() as scheduler,
                Client(scheduler.address, asynchronous=True) as client,
                await worker(
                    scheduler.address, "gpu", "gpu-0", nthreads=threads, resources=resources
                ),
            ):
                source = PreloadSource(scheduler.address, GROUPS)
                await until(source, lambda demand: demand.groups["gpu"].names)
                listening = asyncio.create_task(source.wait_for_change())
                await asyncio.sleep(0.3)  # news of the client are known
                ran: list[Any] = []
                for number in range(least):
                    assert not listening.done(), number
                    ran.append(client.submit(wait, number, resources=needs, pure=False))
                    if number < least - 1:
                        await asyncio.sleep(0.3)
                async with asyncio.timeout(timing.CHANGE / 2):
                    assert await listening
                slow.touch()
                await client.gather(ran)
                await source.close()

    asyncio.run(read())


def test_where_there_are_no_news_nobody_asks_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> None:
        async with in_process(preloaded=False) as scheduler:
            source = PreloadSource(scheduler.address, GROUPS, timeout=0.5)
            asked = 0
            handlers = scheduler.handlers

            def news(**question: Any) -> None:
                nonlocal asked
                asked += 1

            handlers["perennial_news"] = news
            begun = time.monotonic()
            assert not await source.wait_for_change()
            assert not await source.wait_for_change()
            assert asked == 2
            assert time.monotonic() - begun >= 1.0
            del handlers["perennial_news"]
            assert not await source.wait_for_change()
            await source.close()
        assert not await source.wait_for_change()  # nobody is there
        await source.close()

    asyncio.run(read())


def test_scattered_data_waits_for_the_first_worker_while_there_is_a_scaler() -> None:
    async def scattered() -> None:
        async with (
            in_process() as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            with pytest.raises(TimeoutError):  # nobody would start one
                await client.scatter([0], timeout=0.1)
            source = PreloadSource(scheduler.address, GROUPS)
            assert (await until(source, bool)).scatters == 0
            news = asyncio.create_task(source.wait_for_change())
            call = asyncio.create_task(client.scatter([1, 2], timeout=0.1))
            assert (await until(source, lambda demand: demand.scatters)).scatters == 1
            assert await news
            await asyncio.sleep(1)
            async with await worker(scheduler.address, "cpu", "cpu-0"):
                assert await client.gather(await call) == [1, 2]
                assert (await until(source, lambda demand: not demand.scatters)).clients == 1
            call = asyncio.create_task(client.scatter([3], timeout=0.1))
            await until(source, lambda demand: demand.scatters)
            call.cancel()
            await client.close()
            await until(source, lambda demand: not demand.scatters)
            await source.close()

    asyncio.run(scattered())


def test_a_task_that_may_run_elsewhere_and_found_no_worker_waits_for_the_one_that_it_names() -> (
    None
):
    async def bound() -> None:
        async with (
            in_process() as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            source = PreloadSource(scheduler.address, GROUPS)
            task = client.submit(int, workers=["10.9.9.9"], allow_other_workers=True)
            pinned = Signature(pinned=True)

            def waits(demand: Demand) -> bool:
                return any(w.signature == pinned and w.unrunnable.tasks == 1 for w in demand.work)

            await until(source, waits)
            async with await worker(scheduler.address, "cpu", "cpu-0"):
                await asyncio.sleep(1)
                assert task.status == "pending", "Dask has changed: it can be demand now"
                other = client.submit(lambda: 1, workers=["10.9.9.9"], allow_other_workers=True)
                assert await other == 1
            task.release()
            await until(source, lambda demand: not waits(demand))
            await source.close()

    asyncio.run(bound())


def test_over_tls(tmp_path: Path) -> None:
    authority.ensure(tmp_path, "lab", authority.local_names())
    tls = Tls.in_folder(tmp_path)

    async def read(address: str) -> None:
        source = opened(address, GROUPS, tls)
        assert (await source.read())[0].groups == {}
        await source.close()
        stranger = PreloadSource(address.replace("tls", "tcp"), GROUPS, timeout=3)
        with pytest.raises(SchedulerAway):
            await stranger.read()
        await stranger.close()

    with dask_processes.scheduler(tmp_path, tmp_path, "--no-dashboard", *PRELOAD) as address:
        asyncio.run(read(address))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with made() as lab:
        yield lab


def test_a_scheduler_that_hangs_is_away_and_comes_back(lab: Lab) -> None:
    process = lab.scheduler(*PRELOAD)

    async def read() -> None:
        source = PreloadSource(lab.address, GROUPS, timeout=1)
        before, _ = await until_answers(source)
        os.kill(process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(SchedulerAway, match="no answer in 1 s") as caught:
            await source.read()
        assert time.monotonic() - begun < 30
        assert len(str(caught.value).splitlines()) == 1
        with pytest.raises(SchedulerAway):
            await source.read()
        os.kill(process.pid, signal.SIGCONT)
        after, _ = await until_answers(source)
        assert after.scheduler == before.scheduler
        await source.close()

    asyncio.run(read())


async def until_answers(source: Source) -> tuple[Demand, Any]:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await source.read()
        except SchedulerAway:
            assert time.monotonic() < end


def test_a_scheduler_that_was_restarted_is_another_one_at_once(lab: Lab) -> None:
    async def read() -> None:
        process = lab.scheduler(*PRELOAD)
        source = PreloadSource(lab.address, GROUPS)
        before, _ = await until_answers(source)
        process.kill()
        process.wait()
        with pytest.raises(SchedulerAway) as caught:
            await source.read()
        assert len(str(caught.value).splitlines()) == 1
        assert str(lab.port) in str(caught.value)
        lab.scheduler(*PRELOAD)
        after, _ = await until_answers(source)
        assert after.scheduler != before.scheduler
        assert after.uptime < before.uptime + PATIENCE
        await source.close()

    asyncio.run(read())


def test_a_busy_scheduler_is_waited_for() -> None:
    async def read() -> None:
        async with in_process() as scheduler:
            source = PreloadSource(scheduler.address, GROUPS)
            await source.read()
            asyncio.get_running_loop().call_later(0.01, time.sleep, 1.5)
            await asyncio.gather(*(source.read() for _ in range(5)))
            await source.close()

    asyncio.run(read())


def test_what_is_not_understood_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> None:
        async with in_process() as scheduler:
            source = PreloadSource(scheduler.address, GROUPS)
            monkeypatch.setattr(preload, "PROTOCOL", 99)
            with pytest.raises(OtherVersion, match=r"found version 99 .* allowed: version 1"):
                await source.read()
            monkeypatch.undo()
            old = {"dask-perennial": "0.1", "distributed": "2025.12.1"}
            monkeypatch.setattr(preload, "versions", lambda: old)
            with pytest.raises(OtherVersion, match=r"2025\.12\.1; allowed: 2026\.6 or later"):
                await source.read()
            monkeypatch.undo()
            await source.read()
            plugin(scheduler).fault = "the scheduler's counters have stopped: KeyError: 1"
            monkeypatch.setattr(preload, "RECOUNT", -1)
            with pytest.raises(DemandUnknown, match="counters have stopped"):
                await source.read()
            await source.close()
        async with in_process(preloaded=False) as scheduler:
            source = PreloadSource(scheduler.address, GROUPS)
            with pytest.raises(NoPreload, match=r"--preload perennial\.preloads\.demand"):
                await source.read()
            # Nor does its dashboard make do for what an early one may say there.
            early = {"packages": {"distributed": "2025.12.1"}}
            monkeypatch.setitem(scheduler.handlers, "versions", lambda: early)
            either = opened(scheduler.address, GROUPS, http="127.0.0.1:1")
            for asked in (source, either):
                with pytest.raises(OtherVersion, match=r"2025\.12\.1; allowed: 2026\.6 or later"):
                    await asked.read()
                await asked.close()

    asyncio.run(read())


def test_nobody_there() -> None:
    async def read() -> None:
        source = opened(f"tcp://127.0.0.1:{free_port()}", GROUPS, http="127.0.0.1:1")
        with pytest.raises(SchedulerAway) as caught:
            await source.read()
        assert len(str(caught.value).splitlines()) == 1
        await source.close()

    # Not as long as the connection is tried again and again.
    with dask.config.set({"distributed.comm.retry.count": 0}):
        asyncio.run(asyncio.wait_for(read(), PATIENCE))


def test_of_a_scheduler_that_we_did_not_start(lab: Lab) -> None:
    dashboard = f"127.0.0.1:{free_port()}"
    lab.start(
        "scheduler",
        *("scheduler", "--host", "tcp://127.0.0.1", "--port", str(lab.port)),
        *("--dashboard-address", dashboard),
    )
    until_true(lab.answers)
    configuration = lab.folder / "member.yaml"
    configuration.write_text("perennial: {group: gpu}")
    lab.worker("cpu-0", "--nthreads", "2", "--resources", "A=1")
    lab.worker("any-name", "--preload", "perennial.preloads.member", DASK_CONFIG=str(configuration))
    client = lab.client(2)

    async def read() -> None:
        source = opened(lab.address, GROUPS, http=dashboard)
        demand = await until(source, lambda demand: len(demand.groups) == 2)
        assert demand.groups["cpu"].names == ("cpu-0",)
        assert demand.groups["gpu"].names == ("any-name",)
        assert demand.groups["cpu"].detail is None
        assert 0 < demand.groups["cpu"].memory < demand.groups["cpu"].limit
        assert demand.uptime > 0
        assert demand.clients == 1
        assert "--preload perennial.preloads.demand" in demand.partial
        futures = client.map(time.sleep, [1.0] * 40, pure=False)
        futures += client.map(time.sleep, [0.0] * 6, resources={"FPGA": 1}, pure=False)
        # What they need is not known; that no worker has it is.
        needs = "6 tasks need something that no worker has"
        demand = await until(source, lambda demand: needs in demand.partial, "cpu")
        assert demand.work[0].unrunnable == Load()
        demand = await until(source, lambda demand: demand.work[0].queued.tasks > 10)
        assert demand.work[0].queued.unknown == demand.work[0].queued.tasks <= 40
        demand = await until(source, lambda demand: demand.groups["cpu"].busy == 1)
        assert demand.work[0].processing["cpu"].tasks > 0
        client.cancel(futures)
        await source.close()

    asyncio.run(read())


def until_true(right: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not right():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_dashboard_without_workers_makes_all_work_demand() -> None:
    async def read() -> None:
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            source = HttpSource(f"127.0.0.1:{scheduler.http_server.port}", GROUPS)
            futures = client.map(abs, range(9))
            await until(source, lambda d: d.work[0].queued.tasks + d.work[0].unrunnable.tasks == 9)
            del futures

    asyncio.run(read())


def test_a_page_that_fails_while_there_is_work_is_no_scheduler_away() -> None:
    async def read() -> None:
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler,
            Worker(scheduler.address, name="cpu-0"),
        ):
            source = HttpSource(f"127.0.0.1:{scheduler.http_server.port}", GROUPS)
            demand, _ = await source.read()
            assert "ago" not in demand.partial
            (worker,) = scheduler.workers.values()
            heartbeat = worker.metrics
            worker.metrics = {**heartbeat, "spans": {("execute", "cpu"): 1.0}}  # as with work
            demand, _ = await source.read()
            assert demand.groups["cpu"].names == ("cpu-0",)
            assert "its workers are those of 0 s ago" in demand.partial

    asyncio.run(read())


def test_queued_tasks_are_those_that_are_nothing_else() -> None:
    others = {"released": 1, "waiting": 2, "unrunnable": 3, "processing": 4, "erred": 5}
    assert queued({"tasks": 100, "memory": 6, **others}) == 79
    assert queued({"tasks": 20, "memory": 600, **others}) == 0  # copies count as well


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b'{"workers": {"a": 1}}')],
)
def test_what_is_no_dashboard_of_a_scheduler_is_said(status: int, body: bytes) -> None:
    with answering(status, body) as where, pytest.raises(SchedulerAway, match=where) as caught:
        asyncio.run(HttpSource(where, GROUPS).read())
    assert len(str(caught.value).splitlines()) == 1
