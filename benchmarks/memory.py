"""`python -m benchmarks.memory`: a scheduler's memory under a stream of ever-new task names.

Two clusters stand side by side and get the same stream at the same time, both with mutual TLS: one
of Dask alone, one with the scheduler preloads of a standing cluster, asked for its demand as a
scaler asks.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import dask.config
import psutil
from distributed import Client, Security
from distributed.core import rpc

from perennial import authority
from perennial.services import Site, services
from perennial.spec import loads

#: Tasks that are submitted together; each has a name that no task had before.
BATCH = 50
#: Seconds between two questions of a scaler.
INTERVAL = 5.0

CLUSTER = "{name: lab, platform: local, workers: {cpu: {scale: {min: 0, max: 1}}}}"


class Figures(NamedTuple):
    """What was measured at one moment."""

    minutes: float
    names: int
    alone: float  #: Resident MiB of the scheduler of Dask alone.
    ours: float  #: Resident MiB of the scheduler with our preloads.


def preloads(folder: Path) -> list[str]:
    """Name the preloads of a standing cluster's scheduler, as flags."""
    at = str(folder)
    site = Site(*(sys.executable, at, at, at, at), address="127.0.0.1", home=at)
    words = services(loads(CLUSTER), site)[0].command.argv
    flags = itertools.pairwise(words)
    return [f"--preload={module}" for flag, module in flags if flag == "--preload"]


def tls(folder: Path, role: str) -> list[str]:
    """Name the certificate of a role, as flags."""
    files = (folder / "ca.pem", folder / f"{role}.pem", folder / f"{role}-key.pem")
    flags = zip(("--tls-ca-file", "--tls-cert", "--tls-key"), map(str, files), strict=True)
    return ["--protocol", "tls", *(word for pair in flags for word in pair)]


def security(folder: Path) -> Security:
    """Show a client's certificate."""
    return Security(
        tls_ca_file=str(folder / "ca.pem"),
        tls_client_cert=str(folder / "client.pem"),
        tls_client_key=str(folder / "client-key.pem"),
        require_encryption=True,
    )


@contextmanager
def standing(
    folder: Path, certificates: Path, *arguments: str
) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and a worker; give its address and its process."""
    dask = [sys.executable, "-m", "dask"]
    file = folder / "scheduler.json"
    pages = {"folder": str(folder / "pages"), "shared": False}
    (folder / "dask.yaml").write_text(json.dumps({"perennial": {"pages": pages}}))
    environment = {**os.environ, "DASK_CONFIG": str(folder / "dask.yaml")}
    with (folder / "log").open("ab") as log, ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*dask, *words], cwd=folder, env=environment, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        where = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        dashboard = ("--dashboard-address", "127.0.0.1:0")
        flags = tls(certificates, "scheduler")
        process = start("scheduler", *where, *dashboard, *flags, *arguments)
        size = ("--nthreads", "2", "--memory-limit", "1 GiB", "--no-dashboard")
        place = ("--scheduler-file", str(file), "--host", "127.0.0.1")
        start("worker", *place, *size, *tls(certificates, "worker"))
        end = monotonic() + 120
        while not file.exists() or not file.read_text():
            if process.poll() is not None or monotonic() > end:
                raise RuntimeError((folder / "log").read_text())
            sleep(0.1)
        address = str(json.loads(file.read_text())["address"])
        with Client(
            address, security=security(certificates), timeout=120, set_as_default=False
        ) as client:
            client.wait_for_workers(1, timeout=120)
        yield address, psutil.Process(process.pid)


async def stream(client: Any, first: int) -> None:
    """Run some tasks, each with a name of its own."""
    numbers = range(first, first + BATCH)
    futures = [client.submit(abs, n, key=f"name{n}x-{n}") for n in numbers]
    await asyncio.gather(*futures)


async def ask(address: str, secured: Security) -> None:
    """Ask for the demand, as a scaler does; for ever."""
    async with rpc(address, connection_args=secured.get_connection_args("client")) as scheduler:
        while True:
            await scheduler.perennial_demand(groups={"cpu": 1}, detail=["cpu"])
            await asyncio.sleep(INTERVAL)


def resident(process: psutil.Process) -> float:
    """Resident MiB."""
    return float(process.memory_info().rss / 2**20)


async def measure(
    plain: tuple[str, psutil.Process],
    ours: tuple[str, psutil.Process],
    secured: Security,
    seconds: float,
) -> AsyncIterator[Figures]:
    """Send the same stream to both; give their memory along it."""
    asking = asyncio.create_task(ask(ours[0], secured))
    begun, due = monotonic(), 0.0
    options: dict[str, Any] = {"security": secured, "asynchronous": True, "set_as_default": False}
    async with Client(plain[0], **options) as first, Client(ours[0], **options) as second:
        for names in itertools.count(0, BATCH):
            spent = monotonic() - begun
            if spent >= due or spent >= seconds:
                yield Figures(spent / 60, names, resident(plain[1]), resident(ours[1]))
                due += seconds / 20
            if spent >= seconds:
                break
            if asking.done():
                await asking
            await asyncio.gather(stream(first, names), stream(second, names))
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def measured(minutes: float) -> AsyncIterator[Figures]:
    """Let two clusters stand side by side and measure them."""
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"scheduler-address": None}))
        plain, ours, certificates = (
            Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(3)
        )
        authority.ensure(certificates, "lab", ["127.0.0.1"])
        first = stack.enter_context(standing(plain, certificates))
        second = stack.enter_context(standing(ours, certificates, *preloads(certificates)))
        async for figures in measure(first, second, security(certificates), 60 * minutes):
            yield figures


async def show(minutes: float) -> None:
    """Print what is measured, as a table."""
    print("| minutes | names | Dask alone (MiB) | with our preloads (MiB) |")
    print("|---|---|---|---|", flush=True)
    async for figures in measured(minutes):
        print("| {:.1f} | {:,} | {:.0f} | {:.0f} |".format(*figures), flush=True)


def main() -> None:
    """Measure for as many minutes as were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; an hour")
    os.environ["DASK_CONFIG"] = os.devnull
    asyncio.run(show(parser.parse_args().minutes))


if __name__ == "__main__":
    main()
