"""What it costs a scheduler to know its demand, beside what Dask's own answers cost.

One read at a size is measured in one process with a real scheduler whose workers and tasks
exist only in its memory; the plugin's part of the throughput on real processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.measure import Figure, clock, table

REPOSITORY = Path(__file__).parent.parent

#: Prefixes of the tasks: what a large program has.
PREFIXES = 60


@dataclass(frozen=True, slots=True)
class Size:
    """How large the scheduler's world is.

    Parameters
    ----------
    workers, tasks, groups : int
        How many of each.
    """

    workers: int
    tasks: int
    groups: int

    def __str__(self) -> str:
        return f"{self.workers:,} workers, {self.tasks:,} tasks, {self.groups} groups"


def populate(scheduler: Any, size: Size) -> None:
    """Give a scheduler workers and tasks that nobody stands behind.

    A tenth of the tasks is processing, two tenths are queued, a tenth is unrunnable, the others
    wait; some need resources.
    """
    from distributed.core import Status
    from distributed.scheduler import WorkerState

    chance = random.Random(0)
    for index in range(size.workers):
        group = f"group-{index % size.groups}"
        address = f"tcp://10.{index >> 16}.{index >> 8 & 255}.{index & 255}:40000"
        worker = WorkerState(
            address=address,
            status=Status.running,
            pid=1,
            name=f"{group}-{index}",
            nthreads=4,
            memory_limit=2**34,
            local_directory="/scratch",
            nanny=f"{address}1",
            server_id=address,
            extra={"perennial": {"group": group, "member": f"{group}-{index}"}},
            scheduler=scheduler,
        )
        worker.metrics = metrics(chance)
        worker.used_resources = {"GPU": 0.0}
        scheduler.workers[address] = worker
        scheduler.running.add(worker)
        for plugin in scheduler.plugins.values():
            plugin.add_worker(scheduler, address)
    workers = list(scheduler.workers.values())
    for index in range(size.tasks):
        add_task(scheduler, index, workers, chance)


def metrics(chance: random.Random) -> dict[str, Any]:
    """A heartbeat as workers send it."""
    counts = {"in_memory": 3, "ready": 0, "executing": 4, "waiting": 0, "in_flight": 0}
    transfer = dict.fromkeys(
        (
            *("incoming_bytes", "incoming_count", "incoming_count_total"),
            *("outgoing_bytes", "outgoing_count", "outgoing_count_total"),
        ),
        12345,
    )
    return {
        "task_counts": counts,
        "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
        "digests_total_since_heartbeat": {},
        "managed_bytes": 2**28,
        "spilled_bytes": {"memory": 0, "disk": chance.choice([0, 0, 2**20])},
        "transfer": transfer,
        "event_loop_interval": 0.02,
        "cpu": 99.0,
        "memory": chance.randrange(2**28, 2**33),
        "time": 1.0,
        "host_net_io": {"read_bps": 1.0, "write_bps": 1.0},
        "host_disk_io": {"read_bps": 1.0, "write_bps": 1.0},
        "num_fds": 30,
    }


def add_task(scheduler: Any, index: int, workers: list[Any], chance: random.Random) -> None:
    """Add a task in one of the states, and tell the plugins."""
    state = chance.choices(("waiting", "queued", "no-worker", "processing"), (6, 2, 1, 1))[0]
    key = (f"prefix{index % PREFIXES}-{index // 1000:x}", index)
    task = scheduler.new_task(key, None, "released")
    if state == "no-worker" or chance.random() < 0.05:
        task.resource_restrictions = {"GPU": float(chance.choice([1, 2]))}
    if index < PREFIXES // 2:
        task.prefix.duration_average = chance.random()
    if state == "processing":
        worker = chance.choice(workers)
        worker.add_to_processing(task)
        task.processing_on = worker
    elif state == "queued":
        scheduler.queued.add(task)
    elif state == "no-worker":
        scheduler.unrunnable[task] = time.monotonic()
    task.priority = (0, index)
    task.state = state
    for plugin in scheduler.plugins.values():
        plugin.transition(key, "released", state, stimulus_id="benchmark")


def spread(name: str, values: list[float], bound: float, unit: str, detail: str = "") -> Figure:
    """A line of the table."""
    return Figure(name, median(values), min(values), max(values), bound, unit=unit, detail=detail)


async def reads(size: Size, repeats: int) -> list[Figure]:
    """Milliseconds on the scheduler's loop, and bytes, of one read; Dask's answers beside it."""
    from distributed import Scheduler
    from distributed.protocol import dumps

    from perennial.preloads.demand import DemandPlugin

    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        for callback in scheduler.periodic_callbacks.values():
            callback.stop()  # they would look for the workers
        for name in list(scheduler.plugins):
            scheduler.remove_plugin(name)
        plugin = DemandPlugin(scheduler)
        plugin.install()
        populate(scheduler, size)
        report = {"time": time.time(), "mode": "act", "groups": {}}
        first = plugin.demand(report=report, since=("", -1))
        since = (str(scheduler.id), first["names"]["change"])
        sizes: dict[str, int] = {}
        runs: dict[str, Callable[[], object]] = {
            "read": lambda: plugin.demand(report=report, since=since),
            "detail": lambda: plugin.demand(detail=["group-0"], since=since),
            "turn": plugin.look,
            "adaptive_target": scheduler.adaptive_target,
            "identity": scheduler.identity,
        }

        def run(name: str) -> None:
            # The dashboard sends JSON; all else goes over Dask's own wire.
            answer = runs[name]()
            sent = [json.dumps(answer)] if name == "identity" else dumps(answer)
            sizes[name] = sum(map(len, sent))

        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name in runs:
                before = time.thread_time()  # and not the clock: other processes do not count
                run(name)
                times[name].append(1000 * (time.thread_time() - before))
        # Neither task nor worker of these may be looked for at the end.
        scheduler.workers.clear()
        scheduler.running.clear()
        scheduler.tasks.clear()
    target, identity, read = times["adaptive_target"], times["identity"], times["read"]
    detail = f"{sizes['read']:,} bytes; {len(plugin.counts.places):,} live tasks"
    return [
        spread(f"one read of the demand at {size}", read, 0.5, "ms", detail),
        spread("its bytes", [sizes["read"]], 4096, "B", "names that have not changed left out"),
        spread(
            "it ÷ `adaptive_target`",
            [ours / theirs for ours, theirs in zip(read, target, strict=True)],
            1.0,
            "×",
            f"{median(target):.2f} ms",
        ),
        spread(
            "it ÷ `identity`",
            [ours / theirs for ours, theirs in zip(read, identity, strict=True)],
            1.0,
            "×",
            f"{median(identity):.0f} ms, {sizes['identity']:,} bytes",
        ),
        spread("a look at a hundredth of the workers, each 0.1 s", times["turn"], 1.0, "ms"),
        spread(
            f"a read with {size.workers // size.groups:,} members one by one",
            times["detail"],
            20.0,
            "ms",
            f"{sizes['detail']:,} bytes",
        ),
    ]


def switch(on: bool, dask_scheduler: Any) -> None:
    """In the scheduler: count, or do not."""
    from perennial.preloads.demand import DemandPlugin

    plugins, name = dask_scheduler.plugins, DemandPlugin.name
    if name in plugins:
        dask_scheduler.perennial = plugins[name]
    if on and name not in plugins:
        plugins[name] = dask_scheduler.perennial
        plugins[name].restart(dask_scheduler)
    elif not on:
        plugins.pop(name, None)


@contextmanager
def processes() -> Iterator[tuple[str, psutil.Process]]:
    """A real scheduler and two workers; gives the address and the scheduler's process."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perennial-")))
        environment = {**os.environ, "DASK_CONFIG": str(home), "PYTHONPATH": str(REPOSITORY)}

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env=environment,
                cwd=home,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        file = home / "scheduler.json"
        where = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        preload = ("--preload", "perennial.preloads.demand", "--scheduler-file", str(file))
        scheduler = start("scheduler", *where, *preload)
        while not file.exists() or not file.read_text():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        for index in range(2):
            name = ("--name", f"cpu-{index}", "--nthreads", "2", "--no-nanny", "--no-dashboard")
            start("worker", address, *name)
        yield address, psutil.Process(scheduler.pid)


def throughput(tasks: int, repeats: int) -> list[Figure]:
    """How much more of the scheduler's time a task takes with the plugin than without."""
    from distributed import Client, wait

    from benchmarks.work import increment

    with processes() as (address, scheduler), Client(address) as client:
        client.wait_for_workers(2)

        def turn(on: bool) -> tuple[float, float]:
            client.run_on_scheduler(switch, on)
            before = sum(scheduler.cpu_times()[:2])
            seconds = clock(lambda: wait(client.map(increment, range(tasks), pure=False)))
            time.sleep(0.5)  # the results are forgotten, which is part of a task's life
            spent = sum(scheduler.cpu_times()[:2]) - before
            return seconds, spent

        turn(True)
        counted: list[tuple[float, float]] = []
        plain: list[tuple[float, float]] = []
        for number in range(repeats):
            for on in (True, False) if number % 2 else (False, True):
                (counted if on else plain).append(turn(on))
    walls = [ours[0] / theirs[0] for ours, theirs in zip(counted, plain, strict=True)]
    spent = [ours[1] / theirs[1] for ours, theirs in zip(counted, plain, strict=True)]
    each = median(value for _, value in counted) / tasks * 1e6
    return [
        spread("time of tiny tasks with the plugin ÷ without", walls, 1.02, "×"),
        spread("the scheduler's CPU with ÷ without", spent, 1.02, "×", f"{each:.0f} µs a task"),
    ]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demand")
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--tiny", type=int, default=5_000, help="tasks of a turn of throughput")
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    size = Size(arguments.workers, arguments.tasks, arguments.groups)
    print(table(measure(size, arguments.tiny, arguments.repeats)))


def measure(size: Size, tiny: int, repeats: int) -> list[Figure]:
    """Measure everything.

    Parameters
    ----------
    size : Size
        Size at which one read is measured.
    tiny : int
        Tasks of one turn of throughput.
    repeats : int
        Turns.
    """
    figures = asyncio.run(reads(size, repeats)) if size.tasks else []
    return [*figures, *(throughput(tiny, repeats) if tiny else [])]


if __name__ == "__main__":
    main()
