"""A Pulumi program on the lab, run inline by the real engine, in a process of its own."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.homes import run
from tests.labs.aws.lab import ROOT, Lab

#: A function of a module, which declares resources; `partial` gives it its arguments.
Body = Callable[..., Any]


@dataclass(frozen=True)
class Outcome:
    """What a run of the engine did."""

    #: The steps of each resource that was not left as it was, by its name.
    steps: dict[str, list[str]] = field(default_factory=dict)
    #: The properties that differed, by the resource's name.
    paths: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)


class Program:
    """A program, and its stack in a folder."""

    def __init__(self, lab: Lab, folder: Path, body: Body) -> None:
        self.folder, self._body = folder, body
        self._environment = {
            **lab.environment_of(folder / "states"),
            "PULUMI_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, action: str, body: Body | None = None, **options: Any) -> Outcome:
        """Run `up`, `preview`, `refresh` or `destroy`; with another program from now on."""
        self._body = body or self._body
        function, given = self._body, {}
        if isinstance(self._body, partial):
            function, given = self._body.func, self._body.keywords
        wish = {
            **{"action": action, "folder": str(self.folder), "given": given},
            **{"options": options},
            **{"module": function.__module__, "function": function.__name__},
        }
        words = (sys.executable, "-W", "ignore", "-m", __name__, json.dumps(wish))
        said = run(*words, environment=self._environment, folder=ROOT, timeout=600, apart=True)
        return Outcome(**json.loads(said.splitlines()[-1]))


def main(wish: dict[str, Any]) -> Outcome:
    """Run the engine once."""
    from pulumi import automation

    body = getattr(importlib.import_module(wish["module"]), wish["function"])
    stack = automation.create_or_select_stack(
        "dev",
        "project",
        lambda: body(**wish["given"]) and None,
        opts=automation.LocalWorkspaceOptions(work_dir=wish["folder"]),
    )
    made = Outcome()

    def hear(event: automation.EngineEvent) -> None:
        diagnostic = event.diagnostic_event
        if diagnostic is not None and diagnostic.severity == "error":
            made.errors.append(diagnostic.message)
        if event.resource_pre_event is None:
            return
        step = event.resource_pre_event.metadata
        operation = str(getattr(step.op, "value", step.op))
        if operation not in {"same", "read", "refresh"} and "::pulumi:" not in step.urn:
            name = step.urn.rpartition("::")[2]
            made.steps.setdefault(name, []).append(operation)
            made.paths.setdefault(name, []).extend(step.detailed_diff or ())

    try:
        getattr(stack, wish["action"])(on_event=hear, **wish["options"])
    except automation.CommandError as error:
        made.errors.append(str(error))
    if wish["action"] == "up" and not made.errors:
        made.outputs.update({key: each.value for key, each in stack.outputs().items()})
    return made


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1])).__dict__))
