"""Real `dask scheduler` and `dask worker` processes on free ports, stopped after each test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from tests.ports import NO_PAGES, free_port

DRAIN = ("--preload-nanny", "perennial.preloads.drain")
KEEP = ("--preload", "perennial.preloads.keep")


def times_run(folder: str) -> Counter[str]:
    """How often each task has begun to run, by the files in the folder that tasks append to."""
    files = Path(folder).glob("*")
    return Counter({file.name: len(file.read_text().splitlines()) for file in files})


class Lab:
    """A folder, the processes started in it, and their logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.protocol = "tcp"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[Client] = []
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("DASK_")
        } | {"DASK_CONFIG": str(folder / "config")}

    @property
    def address(self) -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}"

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a `dask` command in a session of its own; its output goes to NAME.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=self.folder,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def scheduler(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        where = ("--host", f"{self.protocol}://127.0.0.1", "--port", str(self.port))
        process = self.start("scheduler", "scheduler", *where, *NO_PAGES, *arguments, **environment)
        until(self.answers, "the scheduler answers")
        return process

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def worker(
        self, name: str, *arguments: str, at: str = "", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker; it drains unless the arguments have preloads of their own."""
        preloads = () if any(a.startswith("--preload") for a in arguments) else (*DRAIN, *KEEP)
        return self.start(
            name,
            *("worker", at or self.address, "--name", name, "--host", "127.0.0.1"),
            *("--no-dashboard", "--memory-limit", "1 GiB"),
            *("--local-directory", str(self.folder / "scratch")),
            *(arguments if "--nthreads" in arguments else ("--nthreads", "1", *arguments)),
            *preloads,
            **environment,
        )

    def client(self, workers: int = 0, **options: Any) -> Client:
        client = Client(self.address, set_as_default=False, **options)
        self.clients.append(client)
        if workers:
            client.wait_for_workers(workers, timeout=60)
        return client

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def runs(self) -> Counter[str]:
        """How often each task has begun to run."""
        return times_run(self.counted())

    def counted(self) -> str:
        """Folder for tasks to append to."""
        (self.folder / "runs").mkdir(exist_ok=True)
        return str(self.folder / "runs")

    def close(self) -> None:
        for client in self.clients:
            with suppress(TimeoutError):  # one with very many futures; its scheduler ends next
                client.close(timeout=10)
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def print_logs(self) -> None:
        """Print how each log ends; pytest shows it where the test has failed."""
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}", *log.read_text().splitlines()[-40:], sep="\n")


class Relay:
    """A port that passes everything on to another one, until it goes dark like a lost host."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.dark = threading.Event()
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self.listener.getsockname()[1]

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.listener, *self.sockets):
            each.close()

    def go_dark(self) -> None:
        """Pass nothing on, close nothing, and let no connection be made."""
        self.dark.set()
        for _ in range(4):  # the first is accepted, the next fill the queue
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.sockets.append(filler)

    def _accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            self.sockets.append(near)
            if self.dark.is_set():
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            self.sockets.append(far)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        while (data := source.recv(65536)) and not self.dark.is_set():
            sink.sendall(data)
        if not self.dark.is_set():
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until a condition holds and return what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s: {what}")


@contextmanager
def made() -> Iterator[Lab]:
    """Make a lab; a test that needs one for longer than itself makes its own."""
    folder = Path(tempfile.mkdtemp(prefix="pl", dir="/tmp"))
    lab = Lab(folder)
    try:
        yield lab
    finally:
        lab.close()
        lab.print_logs()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with made() as lab:
        yield lab
