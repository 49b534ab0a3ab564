"""A home folder of its own for each test that starts a cluster; nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.ports import free_ports

PERENNIAL = str(Path(sys.executable).with_name("perennial"))


def wait_until(condition: Callable[[], Any], timeout: float = 60.0) -> Any:
    """Wait for a condition; return what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {timeout} s"
        time.sleep(0.05)
    return found


def environment_of(root: Path) -> dict[str, str]:
    """Environment of somebody with a home, and without Dask's configuration of anybody else."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DASK_")}
    return {**kept, "HOME": str(root), "XDG_STATE_HOME": str(root / "s")}


def run(
    *command: str,
    environment: Mapping[str, str],
    code: int = 0,
    folder: Path | None = None,
    timeout: float = 200,
    apart: bool = False,
) -> str:
    """Run a command to its end; return what it prints, `apart` from what it warns of."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    said = done.stdout + (done.stderr or "")
    assert done.returncode == code, f"{' '.join(command)}: {done.returncode}\n{said}"
    return done.stdout


class Home:
    """A user's home with a cluster file in it, and the command line."""

    def __init__(self, root: Path, jupyter: bool = False, workers: int = 2) -> None:
        self.root = root
        self.environment = environment_of(root)
        scheduler, dashboard, notebooks = free_ports(3)
        self.file = root / "cluster.yaml"
        self.state = root / "s" / "perennial" / "lab"
        self.spec: dict[str, Any] = {
            "name": "lab",
            "platform": "local",
            "scheduler": {"port": scheduler, "dashboard_port": dashboard},
            "workers": {"cpu": {"count": workers, "memory": "1 GiB"}},
            "jupyter": {"port": notebooks} if jupyter else None,
        }
        self.write()

    def write(self) -> None:
        """Write the cluster file."""
        self.file.write_text(yaml.safe_dump(self.spec))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [PERENNIAL, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command and return what it prints."""
        return run(PERENNIAL, *words, environment=self.environment, code=code)

    def run_apart(self, *words: str) -> str:
        """Run a command and return what it prints on its standard output alone."""
        return run(PERENNIAL, *words, environment=self.environment, apart=True)

    def up(self, *words: str, code: int = 0) -> str:
        """Run `perennial up` on the cluster file."""
        return self.run("up", "--yes", "--file", str(self.file), *words, code=code)

    def python(self, code: str) -> str:
        """Run a new Python process and return what it prints."""
        said = run(sys.executable, "-c", code, environment=self.environment, apart=True)
        return said.strip()

    def client(self) -> Any:
        """A client of the cluster, in this process."""
        from distributed import Client
        from distributed.security import Security

        tls = self.state / "tls"
        return Client(
            f"tls://127.0.0.1:{self.spec['scheduler']['port']}",
            security=Security(
                tls_ca_file=str(tls / "ca.pem"),
                tls_client_cert=str(tls / "client.pem"),
                tls_client_key=str(tls / "client-key.pem"),
                require_encryption=True,
            ),
            timeout=60,
            set_as_default=False,
        )

    def pid(self, service: str) -> int:
        """Process id of a service, 0 when it does not run."""
        if service == "supervisord":
            path = self.state / "supervisord.pid"
            return int(path.read_text()) if path.exists() else 0
        from perennial.supervision.single_instance import holder

        return holder(self.state / "run" / f"{service}.lock")[0]

    def workers(self) -> set[str]:
        """Names of the workers that have registered, once the scheduler answers."""
        from perennial.supervision.dashboard import Dashboard

        port, socket = self.spec["scheduler"]["dashboard_port"], self.state / "pages" / "http"
        lock = self.state / "run" / "scheduler.lock"
        dashboard = Dashboard(port, 30.0, str(socket), str(lock))
        wait_until(dashboard.healthy)
        return set(dashboard.worker_names())

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this home."""
        mark = str(self.root)
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get("HOME") == mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill_all(self) -> None:
        """End what is left, by process id."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue
        wait_until(lambda: not [p for p in self.processes() if p.status() != "zombie"])


def make_home(jupyter: bool = False, workers: int = 2) -> Iterator[Home]:
    """Make a home, and leave nothing of it; the path is short, as unix sockets need."""
    home = Home(Path(tempfile.mkdtemp(prefix="p-", dir="/tmp")), jupyter, workers)
    try:
        yield home
    finally:
        home.kill_all()
        shutil.rmtree(home.root, ignore_errors=True)
