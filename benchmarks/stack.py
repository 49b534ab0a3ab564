"""Figures of a cluster on hosts that an ordinary `pulumi up` deploys.

The engine, the provider and Pulumi's command line are real. The program is one in YAML, for whose
language there is a host in the lab.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Chosen, Figure, absolute, clock
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.seat import Seat
from tests.labs.pulumi import engine, settings, yaml_host
from tests.stacks.conftest import passing
from tests.stacks.projects import PLUGINS, Project

UP = ("up", "--yes", "--skip-preview")


def program(python: str, machines: list[str], memory: str = "512 MiB") -> dict[str, Any]:
    """A cluster with a worker on each machine, and no Jupyter."""
    placed = [{"address": name, "name": name, "roles": [{"cpu": 1}]} for name in machines]
    placed[0]["roles"] = ["scheduler", {"cpu": 1}]
    properties = {
        "name": "bench",
        "environment": {"python": python},
        "jupyter": False,
        "workers": {"cpu": {"memory": memory}},
        "hosts": {"machines": placed},
    }
    return {
        "options": {"refresh": "always"},  # as in the template
        "resources": {"bench": {"type": "perennial:index:HostsCluster", "properties": properties}},
    }


class Stack:
    """A project of an operator's, whose cluster stands on the lab's machines."""

    def __init__(self, seat: Seat, machines: list[str]) -> None:
        self._seat = seat
        self._folder, self._states = seat.home / "project", seat.home / "states"
        for folder in (self._folder, self._states):
            folder.mkdir(exist_ok=True)
        project = {"name": "project", "runtime": "yaml", "plugins": PLUGINS}
        text = json.dumps({**project, **program(PYTHON, machines)})
        (self._folder / "Pulumi.yaml").write_text(text)
        path = f"{yaml_host()}:{seat.environment['PATH']}"
        self._environment = {**settings(self._states), "PATH": path}
        self.pulumi("stack", "init", "dev")

    def pulumi(self, *words: str) -> None:
        """Run Pulumi's command line."""
        command = ("pulumi", "--non-interactive", *words)
        self._seat.run(*command, cwd=self._folder, env=self._environment, timeout=600)

    def size(self) -> int:
        """Bytes of the stack's state."""
        (file,) = (self._states / ".pulumi/stacks/project").glob("dev.json")
        return file.stat().st_size


def on_machines(seat: Seat, chosen: Chosen, machines: list[str], repeats: int) -> None:
    """Measure an unchanged `pulumi up`, and the state."""
    if not chosen.has("pq"):
        return
    stack, processor = Stack(seat, machines), []
    stack.pulumi(*UP)
    try:

        def again() -> float:
            before = _used()
            seconds = clock(lambda: stack.pulumi(*UP, "--expect-no-changes"))
            processor.append(_used() - before)
            return seconds

        def unchanged() -> Figure:
            name = f"(p) unchanged `pulumi up`, {len(machines)} machines, looked at"
            found = absolute(name, again, 3.0, repeats)
            return found.with_detail(f"{min(processor):.2f} s of a processor")

        chosen.take("p", unchanged)
        each = len(machines) * 1000
        kept = "(q) state of a machine"
        chosen.take("q", lambda: absolute(kept, lambda: stack.size() / each, 10, 1, "kB"))
    finally:
        stack.pulumi("destroy", "--yes", "--skip-preview")


def _used() -> float:
    """Seconds of a processor that ended children have used, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def without_machines(chosen: Chosen) -> None:
    """Measure what Pulumi prints, of machines that are folders."""
    take = chosen.take
    named = "(r) properties that a preview names of 4 machines, one line changed"
    take("r", lambda: absolute(named, lambda: float(_in_folders(_named)), 1, 1, ""))
    failed = "(s) lines that a machine adds which cannot be reached"
    take("s", lambda: absolute(failed, lambda: _in_folders(_added), 3, 1, ""))


def _in_folders(measure: Callable[[Project], float]) -> float:
    with passing(engine()) as site:
        site.environment["PATH"] = f"{yaml_host()}:{site.environment['PATH']}"
        project = _written(Project(site, "yaml"), "512 MiB")
        project.pulumi("stack", "init", "dev")
        project.pulumi(*UP)
        return measure(project)


def _written(project: Project, memory: str) -> Project:
    told = program("/opt/dask/bin/python", ["ma", "mb", "mc", "md"], memory)
    file = project.folder / "Pulumi.yaml"
    file.write_text(json.dumps({**json.loads(file.read_text()), **told}))
    return project


def _named(project: Project) -> int:
    said = _written(project, "600 MiB").pulumi("preview", "--json")
    steps = json.JSONDecoder().raw_decode(said[said.index("{") :])[0]["steps"]
    found = {path for step in steps for path in step.get("detailedDiff") or {}}
    print(f"named: {', '.join(sorted(found))}", flush=True)
    return len(found)


def _added(project: Project) -> float:
    """Compare one machine that cannot be reached with three."""
    _written(project, "600 MiB")
    lines = [_diagnosed(project, machines) for machines in ("mb", "mb mc md")]
    return (lines[1] - lines[0]) / 2


def _diagnosed(project: Project, broken: str) -> int:
    (project.folder.parent / "broken").write_text(broken)
    said = project.pulumi(*UP, "--continue-on-error", code=1)
    (project.folder.parent / "broken").unlink()
    told = said.partition("Diagnostics:")[2].partition("Resources:")[0]
    return sum(bool(line.strip()) for line in told.splitlines())
