"""What the scheduler says of its demand: real schedulers and workers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client

from perennial.preloads import answering
from tests.preloads.in_process import PATIENCE, in_a_loop, seceding, short, started


@in_a_loop
async def test_restricted_work_piles_up_and_is_still_told_by_what_it_needs() -> None:
    async with started() as cluster:
        client = cluster.client
        await cluster.member("gpu", "gpu-0", resources={"GPU": 1})
        await cluster.member("cpu", "cpu-0")
        gpu = client.map(short, [0.2] * 30, resources={"GPU": 1}, pure=False)
        fpga = client.map(short, [0] * 7, resources={"FPGA": 2, "GPU": 1}, pure=False)
        elsewhere = client.map(short, [0] * 3, workers=["nobody"], pure=False)
        await cluster.until(lambda: len(cluster.scheduler.unrunnable) == 10)
        await asyncio.sleep(0.05)
        piled = cluster.work(("GPU", 1.0))
        # All on the one worker that has it, though it runs one at a time.
        assert piled["processing"]["gpu"][0] > 20
        assert piled["queued"][0] == piled["unrunnable"][0] == 0
        assert cluster.work(("FPGA", 2.0), ("GPU", 1.0))["unrunnable"] == [7, 0.0, 7]
        assert cluster.work(("FPGA", 2.0), ("GPU", 1.0))["oldest"] >= 0.05
        assert cluster.work(pinned=True)["unrunnable"][0] == 3
        await client.cancel([*gpu, *fpga, *elsewhere])
        await cluster.until(lambda: not cluster.ask()["work"])
        cluster.check()


@in_a_loop
async def test_without_workers_all_is_demand_and_inputs_are_waited_for() -> None:
    async with started() as cluster:
        first = cluster.client.map(short, [0.01] * 500, pure=False)
        total = cluster.client.submit(short, 0, *first[:9], key="total-1")
        single = cluster.client.submit(short, 0, key="single-1")
        await cluster.until(lambda: len(cluster.scheduler.tasks) == 502)
        work = cluster.work()
        assert work["queued"][0] + work["unrunnable"][0] == 501
        assert work["waiting"] == 1
        assert work["queued"][2] + work["unrunnable"][2] == 501  # of no known duration
        await cluster.member("cpu", "cpu-0")
        await cluster.until(lambda: cluster.work()["queued"][1] > 0)
        known = cluster.work()["queued"]
        assert known[2] <= 1  # the single one, which is of another kind
        assert known[1] >= (known[0] - known[2]) * 0.01
        del first, total, single
        await cluster.until(lambda: not cluster.ask()["work"])


@in_a_loop
async def test_members_one_by_one() -> None:
    async with started() as cluster:
        client = cluster.client
        one = await cluster.member("cpu", "cpu-0-0", processes=2)
        two = await cluster.member("cpu", "cpu-0-1", processes=2)
        three = await cluster.member("cpu", "cpu-1-0", processes=2)
        await cluster.member("gpu", "gpu-0")
        both = await client.scatter(b"x" * 1000, workers=[one.address, two.address], broadcast=True)
        alone = await client.scatter(b"y" * 500, workers=[two.address], hash=False)
        running = client.submit(seceding, 5, workers=[two.address])
        await cluster.until(lambda: cluster.ask(detail=["cpu"])["detail"]["cpu"][-1][3] == 1)
        answer = cluster.ask(detail=["cpu", "nobody"])
        assert set(answer["detail"]) == {"cpu"}
        idle, busy = (dict(zip(answering.MEMBER, x, strict=True)) for x in answer["detail"]["cpu"])
        assert (idle["worker"], idle["processes"], idle["unique"]) == ("cpu-1", 1, 0)
        assert idle["idle"] > 0
        assert (busy["worker"], busy["processes"], busy["processing"]) == ("cpu-0", 2, 1)
        assert busy["idle"] == 0
        assert busy["unique"] == 2  # also the one of which only this member has copies
        assert busy["nbytes"] == one.state.nbytes + two.state.nbytes
        assert busy["memory"] > 0
        assert answer["groups"]["cpu"]["members"] == 2
        assert answer["groups"]["cpu"]["busy"] == 1
        # One that has seceded needs no thread.
        await cluster.until(lambda: not cluster.ask()["work"])
        await cluster.scheduler.retire_workers(
            workers=[one.address], close_workers=False, remove=False, stimulus_id="test"
        )
        answer = cluster.ask(detail=["cpu"])
        assert answer["detail"]["cpu"][-1][1] == "closing_gracefully"
        assert answer["groups"]["cpu"]["members"] == 2
        await cluster.scheduler.retire_workers(
            workers=[two.address], close_workers=False, remove=False, stimulus_id="test"
        )
        # Who is parked gives no room, and its data is to come to those who stay.
        left, stays = cluster.ask()["groups"]["cpu"], cluster.scheduler.workers[three.address]
        assert (left["members"], left["busy"]) == (1, 0)
        assert left["limit"] == stays.memory_limit
        assert 0 < left["memory"] < answer["groups"]["cpu"]["memory"]
        await client.cancel([running])
        del both, alone


@in_a_loop
async def test_a_member_is_idle_from_when_its_last_task_ended() -> None:
    async with started() as cluster:
        await cluster.member("cpu", "cpu-0")

        def idle() -> float:
            seconds: float = cluster.ask(detail=["cpu"])["detail"]["cpu"][0][5]
            return seconds

        await asyncio.sleep(0.3)
        before = idle()
        assert before >= 0.3
        begun = time.monotonic()
        await cluster.client.submit(short, 0)
        await cluster.until(lambda: idle() > 0)
        assert idle() <= time.monotonic() - begun


@in_a_loop
async def test_workers_that_do_not_say_whose_they_are() -> None:
    async with started() as cluster:
        await cluster.worker("gpu-large-0", resources={"GPU": 1})
        await cluster.worker("cpu-7-1")
        await cluster.worker("9")
        running = cluster.client.submit(short, 4, resources={"GPU": 1})
        await cluster.until(lambda: cluster.work(("GPU", 1.0)))
        assert set(cluster.ask()["groups"]) == {""}
        answer = cluster.ask(groups={"gpu": 1, "gpu-large": 1, "cpu": 2}, since=("", -1))
        assert answer["names"]["all"] == {"gpu-large": ["gpu-large-0"], "cpu": ["cpu-7"], "": ["9"]}
        assert cluster.work(("GPU", 1.0))["processing"] == {"gpu-large": [1, 0.0, 1]}
        cluster.check()
        await cluster.client.cancel([running])


@in_a_loop
async def test_only_names_that_have_changed_are_told() -> None:
    async with started() as cluster:
        await cluster.member("cpu", "cpu-0")
        names = cluster.ask(since=["", -1])["names"]
        assert names["all"] == {"cpu": ["cpu-0"]}
        here = str(cluster.scheduler.id)
        assert cluster.ask(since=[here, names["change"]])["names"]["changes"] == []
        await cluster.member("cpu", "cpu-1")
        await cluster.workers[0].close()
        later = cluster.ask(since=[here, names["change"]])["names"]
        assert later["changes"] == [["cpu", "cpu-1", True], ["cpu", "cpu-0", False]]
        # Of another scheduler, of before a count of everything, or of the future.
        assert "all" in cluster.ask(since=["another", later["change"]])["names"]
        assert "all" in cluster.ask(since=[here, later["change"] + 1])["names"]
        cluster.plugin.restart(cluster.scheduler)
        assert cluster.ask(since=[here, later["change"]])["names"]["all"] == {"cpu": ["cpu-1"]}
        assert "names" not in cluster.ask()


@in_a_loop
async def test_a_read_looks_at_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async with started() as cluster:
        await cluster.member("cpu", "cpu-0")
        futures = cluster.client.map(short, [0.05] * 50, pure=False)
        await cluster.until(lambda: cluster.work().get("queued", [0])[0] > 10)
        bare = SimpleNamespace(
            **{"id": cluster.scheduler.id, "clients": cluster.scheduler.clients},
            **{"workers": cluster.scheduler.workers, "plugins": cluster.scheduler.plugins},
        )
        with monkeypatch.context() as patch:
            patch.setattr(cluster.plugin, "scheduler", bare)
            answer = cluster.ask(since=("", -1))
        assert answer["fault"] == ""
        assert answer["work"][0]["queued"][0] > 10
        await cluster.client.cancel(futures)


@in_a_loop
async def test_own_clients_of_tasks_are_not_people() -> None:
    async with started() as cluster:
        assert cluster.ask()["clients"] == 1
        async with Client(cluster.scheduler.address, asynchronous=True, name="worker"):
            assert cluster.ask()["clients"] == 1
        async with Client(cluster.scheduler.address, asynchronous=True):
            assert cluster.ask()["clients"] == 2


def test_the_operations_are_there_over_the_wire(tmp_path: Path) -> None:
    """From real processes: the scheduler's command line, and workers with nannies."""
    from tests import dask_processes

    flags = ("--preload", "perennial.preloads.demand")
    member = ("--preload", "perennial.preloads.member", "--nworkers", "2", "--nthreads", "1")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "dask.yaml").write_text("perennial: {group: cpu, processes: 2}")

    async def ask(address: str) -> None:
        from distributed.core import rpc

        async with rpc(address) as scheduler:
            end = time.monotonic() + PATIENCE
            while True:
                answer = await scheduler.perennial_demand(detail=["cpu"], since=["", -1])
                if answer["detail"].get("cpu", [[0] * 9])[0][2] == 2:
                    break
                assert time.monotonic() < end
                await asyncio.sleep(0.2)
            assert answer["names"]["all"] == {"cpu": ("cpu-3",)}
            assert answer["groups"]["cpu"]["members"] == 1
            assert answer["uptime"] > 0
            name = await scheduler.perennial_wish(wish={"kind": "unpin", "group": "cpu"})
            report = {"time": 1.0, "groups": {"cpu": {"seen": 1}}}
            wishes = (await scheduler.perennial_demand(report=report))["wishes"]
            assert [wish["id"] for wish in wishes] == [name]
            assert not (await scheduler.perennial_demand(acknowledged=[name]))["wishes"]
            told = await scheduler.perennial_report()
            assert told["report"] == report
            assert told["records"]["cpu"][0][:2] == (1.0, 1)
            with pytest.raises(ValueError, match="found kind 'fly'"):
                await scheduler.perennial_wish(wish={"kind": "fly"})

    with dask_processes.scheduler(tmp_path, None, "--no-dashboard", *flags) as address:
        size = ("--name", "cpu-3", "--memory-limit", "1GiB", "--no-dashboard", "--protocol", "tcp")
        configuration = {"DASK_CONFIG": str(tmp_path / "cpu")}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                dask_processes,
                "environment",
                lambda home, environment=dask_processes.environment: environment(
                    home, configuration
                ),
            )
            with dask_processes.dask(tmp_path, "worker", address, *size, *member):
                asyncio.run(ask(address))
