"""Real Dask processes for tests: a scheduler and a worker, and Python processes of a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from distributed import Client

from tests.ports import ANY_PAGES

#: Generous: the machine may be busy with other things.
PATIENCE = 60


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """Give what the scheduler says of each worker, by address.

    Not `client.scheduler_info`: every 2 s the client replaces the answer by one without workers,
    also between the question and its end.
    """
    found: dict[str, dict[str, Any]] = client.sync(client.scheduler.identity, n_workers=-1)
    return found["workers"]


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of a user with this home and no Dask configuration but their own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DASK_", "XDG_", "PERENNIAL_"))
    }
    return {**kept, "HOME": str(home), **(more or {})}


def python(code: str, home: Path, more: Mapping[str, str] | None = None) -> str:
    """What a new Python process prints; what it raises when it fails."""
    # Worker processes import the main module again, so the code runs under the usual guard.
    guarded = "if __name__ == '__main__':\n" + "\n".join(f"    {x}" for x in code.splitlines())
    ended = subprocess.run(
        [sys.executable, "-c", guarded],
        env=environment(home, more),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return ended.stdout.strip() if ended.returncode == 0 else ended.stderr.strip().splitlines()[-1]


def tls_flags(tls: Path | None, role: str) -> list[str]:
    if tls is None:
        return ["--protocol", "tcp"]
    files = (f"{tls}/ca.pem", f"{tls}/{role}.pem", f"{tls}/{role}-key.pem")
    names = ("--tls-ca-file", "--tls-cert", "--tls-key")
    return ["--protocol", "tls", *(x for pair in zip(names, files, strict=True) for x in pair)]


@contextmanager
def dask(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `dask` command that runs until the block ends; its output goes to `home`/dask.log."""
    with (home / "dask.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            env=environment(home),
            cwd=home,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def scheduler(home: Path, tls: Path | None, *arguments: str) -> Iterator[str]:
    """A scheduler on a free port of loopback; gives its address."""
    file = home / "scheduler.json"
    where = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), *ANY_PAGES)
    with dask(home, "scheduler", *where, *tls_flags(tls, "scheduler"), *arguments) as process:
        end = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_text():
            assert process.poll() is None, (home / "dask.log").read_text()
            assert time.monotonic() < end, "no scheduler"
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]


@contextmanager
def cluster(home: Path, tls: Path | None) -> Iterator[str]:
    """A scheduler with a dashboard and a worker; gives the scheduler's address."""
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(home, tls))
        size = ("--nthreads", "1", "--memory-limit", "1GiB", "--no-dashboard", "--name", "cpu-0")
        stack.enter_context(dask(home, "worker", address, *size, *tls_flags(tls, "worker")))
        yield address
