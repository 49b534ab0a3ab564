"""Describes the engine's events for an operator. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pulumi.automation import CommandError
from pulumi.automation.events import EngineEvent, OpType, StepEventMetadata

from perennial.plan import ABANDONED

from . import engine
from .engine import MACHINE_KINDS, kind_of

#: Kind of resource → what it is.
KINDS = {
    "HostEnvironment": "Python environment",
    "HostServices": "services",
    "LocalServices": "services",
    "Authority": "certificate authority",
    "ClusterAuthority": "certificate authority",
}

#: What is being done, and what was done.
DOING = {
    OpType.CREATE: "making",
    OpType.UPDATE: "changing",
    OpType.DELETE: "removing",
    OpType.REFRESH: "looking at",
}
DONE = {OpType.CREATE: "made", OpType.UPDATE: "changed", OpType.DELETE: "removed"}

#: What changes something. The parts of a replacement are not here: it has an operation of its own.
CHANGES = {OpType.CREATE, OpType.UPDATE, OpType.REPLACE, OpType.DELETE}

#: What stands in a line that says what stays on a machine that was cleaned.
LEFT = " left in place: "


@dataclass(slots=True)
class DeploymentLog:
    """What a deployment did, from its events."""

    #: How many resources were made, changed, removed, and were as they should be.
    counts: dict[str, int] = field(default_factory=dict)
    #: One line for each thing that failed.
    errors: list[str] = field(default_factory=list)
    #: What was done, or in a preview would be.
    steps: list[StepEventMetadata] = field(default_factory=list)
    #: What the person has to know at the end.
    notes: list[str] = field(default_factory=list)
    #: What members abandoned when they were stopped.
    abandoned: dict[str, str] = field(default_factory=dict)
    #: Whether nothing is done, and only what is looked at is worth telling.
    preview: bool = False
    #: URN → machine, or name of another provider's resource, as far as the events have said.
    machines: dict[str, str] = field(default_factory=dict)

    def record(self, event: EngineEvent) -> str | None:
        """Record an event; return the line that it is worth to a person who waits, if any."""
        if event.diagnostic_event is not None:
            return self._record_diagnostic(event.diagnostic_event)
        if event.resource_pre_event is not None:
            return self._record_begin(event.resource_pre_event.metadata)
        if event.res_outputs_event is not None:
            return self._record_end(event.res_outputs_event.metadata)
        return None

    def _record_begin(self, step: StepEventMetadata) -> str | None:
        if step.op in CHANGES and not bookkeeping(step.type):
            self.steps.append(step)
        if kind_of(step.type) in MACHINE_KINDS:
            self.machines[step.urn] = machine_of(step)
        elif not step.type.startswith(("perennial:", "pulumi")):
            self.machines[step.urn] = step.urn.rpartition("::")[2]
        what = subject(step)
        if what is None or step.op not in DOING:
            return None
        quiet = self.preview and step.op in DONE
        return None if quiet else f"{DOING[step.op]} {what}"

    def _record_end(self, step: StepEventMetadata) -> str | None:
        what = subject(step)
        if what is None or step.op == OpType.REFRESH:
            return None
        word = DONE.get(step.op, "unchanged")
        self.counts[word] = self.counts.get(word, 0) + 1
        return f"{what} {word}" if step.op in DONE and not self.preview else None

    def _record_diagnostic(self, event: Any) -> str | None:
        text = event.message.strip()
        if event.severity == "error":
            line = last_line(text)
            if line and line not in self.errors and not _echo(line):
                self.errors.append(_with_name(line, self.machines.get(event.urn or "")))
            return None
        if event.severity == "info" and text:
            self.notes += [line for line in text.splitlines() if LEFT in line]
            self.abandoned |= dict(_losses(text))
            return str(text.splitlines()[-1])
        return None


def bookkeeping(kind: str) -> bool:
    """Whether resources of a type exist in Pulumi's state alone: stacks, providers, components."""
    component = kind.startswith("perennial:") and kind.endswith("Cluster")
    return component or kind.startswith("pulumi:")


def subject(step: StepEventMetadata) -> str | None:
    """Name what a resource is to an operator; None for what is only Pulumi's bookkeeping."""
    if bookkeeping(step.type):
        return None
    kind, name = kind_of(step.type), step.urn.rpartition("::")[2]
    if not kind:  # a resource of another provider, named as its own tools do
        return f"{step.type.rpartition(':')[2]} {name}"
    word = KINDS.get(kind, name)
    return f"{word} of {machine_of(step)}" if kind in MACHINE_KINDS else word


def machine_of(step: StepEventMetadata) -> str:
    """Return the machine of a resource."""
    side = step.new if step.new is not None and step.new.inputs else step.old
    inputs = (side.inputs if side is not None else None) or {}
    return engine.machine_of({"urn": step.urn, "inputs": inputs})


def last_line(text: str) -> str:
    """Last line of an error that says something, without the name of the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    head, colon, rest = lines[-1].partition(": ")
    is_name = "." in head and " " not in head and head.rpartition(".")[2].endswith("Error")
    return (rest if colon and is_name else lines[-1]).removeprefix("* ")


def reason(error: CommandError) -> str:
    """Return the error of the command line itself."""
    lines = [line.strip().removeprefix("stderr: ") for line in str(error).splitlines()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"pulumi: {said[0]}" if said else f"pulumi: {last_line(str(error))}"


def summary(log: DeploymentLog, seconds: float) -> str:
    """Say in one line what was done."""
    words = ("made", "changed", "removed", "unchanged")
    parts = [f"{log.counts[word]} {word}" for word in words if log.counts.get(word)]
    return f"{', '.join(parts) or 'nothing to do'} in {seconds:.1f} s"


def _losses(text: str) -> Iterator[tuple[str, str]]:
    """Read lines such as ``machine-b: cpu-machine-b-0 abandoned 1 task (x)``."""
    for line in text.splitlines():
        said, found, what = line.partition(ABANDONED)
        member = said.rpartition(": ")[2]
        if found and " " not in member:
            yield member, what


def _with_name(line: str, machine: str | None) -> str:
    """Put the machine's name before a line that does not begin with it."""
    return line if machine is None or machine in line else f"{machine}: {line}"


def _echo(line: str) -> bool:
    """Whether a line only repeats that something failed, which another one explains."""
    return line in ("update failed", "preview failed", "destroy failed", "refresh failed")
