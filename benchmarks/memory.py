"""`python -m benchmarks.memory`: a scheduler's memory under a stream of ever-new task names.

Two clusters stand side by side and get the same stream at the same time: one of Dask alone, one
with the scheduler preloads of a standing cluster, asked for its demand as a scaler asks.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
from distributed import Client
from distributed.core import rpc

PRELOADS = ("ready", "demand", "page", "roster")
#: Tasks that are submitted together; each has a name that no task had before.
BATCH = 50
#: Seconds between two questions of a scaler.
INTERVAL = 5.0


@contextmanager
def standing(folder: Path, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and a worker; give its address and its process."""
    dask = [sys.executable, "-m", "dask"]
    file = folder / "scheduler.json"
    with (folder / "log").open("ab") as log, ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([*dask, *words], cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        where = ("--host", "tcp://127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        process = start("scheduler", *where, "--dashboard-address", "127.0.0.1:0", *arguments)
        size = ("--nthreads", "2", "--memory-limit", "1 GiB", "--no-dashboard")
        start("worker", "--scheduler-file", str(file), "--host", "127.0.0.1", *size)
        with Client(scheduler_file=str(file), timeout=120, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
            address = str(client.scheduler.address)
        yield address, psutil.Process(process.pid)


async def stream(client: Any, first: int) -> None:
    """Run some tasks, each with a name of its own."""
    numbers = range(first, first + BATCH)
    futures = [client.submit(abs, n, key=f"name{n}x-{n}") for n in numbers]
    await asyncio.gather(*futures)


async def ask(address: str) -> None:
    """Ask for the demand, as a scaler does; for ever."""
    scheduler = rpc(address)
    while True:
        await scheduler.perennial_demand(groups={"cpu": 1}, detail=["cpu"])
        await asyncio.sleep(INTERVAL)


def resident(process: psutil.Process) -> float:
    """Resident MiB."""
    return float(process.memory_info().rss / 2**20)


async def measure(
    plain: tuple[str, psutil.Process], ours: tuple[str, psutil.Process], seconds: float
) -> None:
    """Send the same stream to both, and print their memory along it."""
    print("| minutes | names | Dask alone (MiB) | with our preloads (MiB) |")
    print("|---|---|---|---|", flush=True)
    asking = asyncio.create_task(ask(ours[0]))
    begun, due, names = monotonic(), 0.0, 0
    async with (
        Client(plain[0], asynchronous=True, set_as_default=False) as first,
        Client(ours[0], asynchronous=True, set_as_default=False) as second,
    ):
        for names in itertools.count(0, BATCH):
            spent = monotonic() - begun
            if spent >= due or spent >= seconds:
                figures = (spent / 60, names, resident(plain[1]), resident(ours[1]))
                print("| {:.1f} | {} | {:.0f} | {:.0f} |".format(*figures), flush=True)
                due += seconds / 20
            if spent >= seconds:
                break
            await asyncio.gather(stream(first, names), stream(second, names))
    asking.cancel()


def main() -> None:
    """Measure for as many minutes as were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; an hour")
    minutes = parser.parse_args().minutes
    os.environ["DASK_CONFIG"] = os.devnull
    preloads = [f"--preload=perennial.preloads.{name}" for name in PRELOADS]
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in "ab"]
        plain = stack.enter_context(standing(folders[0]))
        ours = stack.enter_context(standing(folders[1], *preloads))
        asyncio.run(measure(plain, ours, 60 * minutes))


if __name__ == "__main__":
    main()
