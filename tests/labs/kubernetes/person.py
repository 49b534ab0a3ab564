"""Somebody who types `perennial` for a cluster on Kubernetes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.homes import PERENNIAL, environment_of, run
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
        path = ":".join([*map(str, folders), os.environ["PATH"]])
        self.environment = {**environment_of(home), "PATH": path}
        #: Command by which each of theirs is started.
        self.starter: tuple[str, ...] = ()

    def run(self, *words: str, code: int = 0) -> str:
        """Run `perennial`; return what it says."""
        (self.home / "cluster.yaml").write_text(yaml.safe_dump(self.spec))
        return run(
            *(*self.starter, PERENNIAL, *words),
            environment=self.environment,
            folder=self.home,
            code=code,
            timeout=600,
        )

    def plan(self) -> list[str]:
        """Run `perennial plan`; return its steps."""
        said = self.run("plan").splitlines()
        return [" ".join(line.split()) for line in said if line.startswith("  ")]
