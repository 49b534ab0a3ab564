"""Somebody who types `perennial` for a cluster on Kubernetes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.labs.hosts.base import UnavailableError
from tests.labs.pulumi import engine, kubernetes_provider


class Person:
    """Somebody with a home, a kubeconfig and a cluster file."""

    def __init__(self, home: Path, spec: dict[str, Any]) -> None:
        self.home, self.spec = home, spec
        try:
            folders = (Path(sys.executable).parent, engine(), kubernetes_provider())
        except UnavailableError as error:
            pytest.skip(str(error))
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "PATH": ":".join([*map(str, folders), os.environ["PATH"]]),
        }

    def run(self, *words: str, code: int = 0) -> str:
        """Run `perennial`; return what it says."""
        (self.home / "cluster.yaml").write_text(yaml.safe_dump(self.spec))
        done = subprocess.run(
            [sys.executable, "-m", "perennial", *words],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def plan(self) -> list[str]:
        """Run `perennial plan`; return its steps."""
        said = self.run("plan").splitlines()
        return [" ".join(line.split()) for line in said if line.startswith("  ")]
