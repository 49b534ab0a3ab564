"""A platform that exists in the tests alone, with as little as a new one begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.cli.output import show_plan
from perennial.cli.platform import Wishes
from perennial.paths import cluster_state
from perennial.plan import Impact, Step
from perennial.spec import Document, dump
from perennial.spec.options import PlatformOptions


class Options(PlatformOptions):
    """What a person writes under `toy`."""

    colour: str = "red"
    """Its colour."""


def faults(_document: Document) -> tuple[list[Any], list[Any]]:
    return [], []


def plan(document: Document, _file: Path, _strict: bool) -> None:
    show_plan(document.spec.name, [Step("replace", "", "scheduler", "red", Impact.LOSES_WORK)])


def up(document: Document, _file: Path, _wishes: Wishes) -> None:
    paths = cluster_state(document.spec.name)
    paths.root.mkdir(parents=True, mode=0o700)
    paths.spec.write_text(dump(document.spec))
    print(f"{document.spec.name} is up")


def down(name: str, _force: bool, _purge: bool) -> None:
    cluster_state(name).spec.unlink()
    print(f"{name} is down")


def row(name: str) -> dict[str, Any]:
    found = {"name": name, "platform": "toy", "state": "up", "workers": 0}
    return {**found, "scheduler": "", "file": None}


def report(name: str) -> dict[str, Any]:
    return {"name": name, "services": [], "scheduler": None}
