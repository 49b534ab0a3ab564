"""Pulumi's real engine on machines that are folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.homes import PERENNIAL, environment_of, wait_until

STANDIN = Path(__file__).with_name("standin")


class Site:
    """An operator's home, a cluster file, and machines that are folders."""

    def __init__(self, root: Path, engine: Path) -> None:
        self.root = root
        self.environment = {
            **environment_of(root),
            "PATH": f"{engine}:{os.environ['PATH']}",
            "PYTHONPATH": str(STANDIN),
            "STANDIN": str(root),
        }
        self.file = root / "cluster.yaml"
        self.state = root / "s" / "perennial" / "lab"
        self.spec: dict[str, Any] = {
            "name": "lab",
            "platform": "hosts",
            "environment": {"python": "/opt/dask/bin/python"},
            "workers": {"cpu": {"count": 2, "memory": "1 GiB"}},
            "hosts": {"machines": ["ma", "mb", "mc"]},
        }

    def start(self, *words: str, nap: float = 0.05) -> subprocess.Popen[str]:
        """Start a command."""
        self.file.write_text(json.dumps(self.spec))
        return subprocess.Popen(
            [PERENNIAL, *words],
            env={**self.environment, "NAP": str(nap)},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0, nap: float = 0.05, timeout: float = 120) -> str:
        """Run a command and return what it says."""
        process = self.start(*words, nap=nap)
        said, _ = process.communicate(timeout=timeout)
        assert process.returncode == code, f"perennial {' '.join(words)}:\n{said}"
        return said

    def up(self, code: int = 0) -> str:
        """Run `perennial up`."""
        return self.run("up", "--yes", code=code)

    def plan(self) -> list[str]:
        """Run `perennial plan`; return what it would do."""
        said = self.run("plan").splitlines()
        return [" ".join(line.split()) for line in said if line.startswith("  ")]

    def machines(self) -> dict[str, list[str]]:
        """What is on each machine."""
        folders = sorted((self.root / "machines").glob("*"))
        return {one.name: sorted(part.name for part in one.iterdir()) for one in folders}

    def processes(self) -> list[psutil.Process]:
        """Every process that works for this site."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("STANDIN") == str(self.root):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    """A site, of which nothing is left."""
    from tests.labs.hosts.base import UnavailableError
    from tests.labs.pulumi import engine

    try:
        folder = engine()
    except UnavailableError as error:
        pytest.skip(str(error))
    with passing(folder) as made:
        yield made


@contextmanager
def passing(engine: Path) -> Iterator[Site]:
    """Give a site, and leave nothing of it."""
    made = Site(Path(tempfile.mkdtemp(prefix="p-", dir="/tmp")), engine)
    try:
        yield made
    finally:
        for process in made.processes():
            process.kill()
        wait_until(lambda: not made.processes())
        shutil.rmtree(made.root, ignore_errors=True)
