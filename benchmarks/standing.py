"""A standing cluster in a home of its own, and the usual ways beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.ports import free_ports

PERENNIAL = str(Path(sys.executable).with_name("perennial"))

#: Reaches a cluster as soon as it can be reached, and says when its first result is there.
CLIENT = """
import sys, time
from distributed import Client
print("ready", flush=True)
def look():
    import dask, os
    dask.config.refresh()
    return dask.config.get("scheduler-address", None)
while not (address := (sys.argv[1] if len(sys.argv) > 1 else look())):
    time.sleep(0.01)
while True:
    try:
        with Client(address, timeout=60) as client:
            assert client.submit(sum, [1, 2]).result() == 3
            break
    except OSError:
        time.sleep(0.01)
print("result", flush=True)
"""


class Home:
    """A home folder of its own: nothing of the user's is read or changed."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DASK_")},
            "HOME": str(self.root),
            "XDG_STATE_HOME": str(self.root / "s"),
        }
        self.file = self.root / "cluster.yaml"
        self.write(jupyter=True)

    def write(self, jupyter: bool) -> None:
        """Write the cluster file: two workers of one thread, as beside it."""
        scheduler, dashboard, notebooks = free_ports(3)
        self.file.write_text(
            "name: bench\nplatform: local\n"
            f"scheduler: {{port: {scheduler}, dashboard_port: {dashboard}}}\n"
            "workers:\n  cpu: {count: 2, threads: 1, memory: 2 GiB}\n"
            + (f"jupyter: {{port: {notebooks}}}\n" if jupyter else "jupyter: null\n")
        )

    def perennial(self, *words: str) -> None:
        """Run a command; fail with what it says."""
        done = subprocess.run(
            [PERENNIAL, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"perennial {' '.join(words)}: {done.stdout}{done.stderr}")

    def up(self) -> None:
        """Start or leave as it is."""
        self.perennial("up", "--yes", "--file", str(self.file))

    def down(self) -> None:
        """Stop it."""
        self.perennial("down", "--force", "--file", str(self.file))

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)

    def python(self, code: str, *words: str) -> subprocess.Popen[str]:
        """Start a Python process in this home."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def supervisord(self) -> psutil.Process:
        """The cluster's supervisord."""
        pid = int((self.root / "s/perennial/bench/supervisord.pid").read_text())
        return psutil.Process(pid)


def wait_line(process: subprocess.Popen[str], line: str) -> None:
    """Wait until a process prints a line."""
    assert process.stdout is not None
    for text in process.stdout:
        if text.strip() == line:
            return
    raise RuntimeError(f"the process ended without saying {line!r}")


def up_to_first_result() -> float:
    """Seconds from `perennial up` of a new cluster to a client's first result."""
    home = Home()
    try:
        client = home.python(CLIENT)
        wait_line(client, "ready")
        start = time.perf_counter()
        up = subprocess.Popen(
            [PERENNIAL, "up", "--yes", "--file", str(home.file)],
            env=home.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_line(client, "result")
        seconds = time.perf_counter() - start
        client.wait()
        assert up.wait() == 0
        home.down()
    finally:
        home.close()
    return seconds


def by_hand_to_first_result() -> float:
    """Seconds from `dask scheduler` and two `dask worker` to a client's first result."""
    home = Home()
    port, dashboard = free_ports(2)
    address = f"tcp://127.0.0.1:{port}"
    client = home.python(CLIENT, address)
    wait_line(client, "ready")
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port)]
    scheduler += ["--dashboard-address", f"127.0.0.1:{dashboard}"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--memory-limit", "2GiB"]
    worker += ["--local-directory", str(home.root)]
    commands = [scheduler, [*worker, "--name", "0"], [*worker, "--name", "1"]]
    start = time.perf_counter()
    processes = [
        subprocess.Popen(
            command, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for command in commands
    ]
    try:
        wait_line(client, "result")
        seconds = time.perf_counter() - start
        client.wait()
    finally:
        # SIGKILL: a `dask worker` that is told to stop while it starts may never leave.
        for process in processes:
            tree = psutil.Process(process.pid)
            for each in [*tree.children(recursive=True), tree]:
                each.kill()
        for process in processes:
            process.wait()
        home.close()
    return seconds
