"""From the engine's preview to what a person reads, in the platform's words where it has some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pulumi.automation.events import OpType, StepEventMetadata

from perennial.plan import Action, Step
from perennial.spec import ClusterSpec

from . import program
from .events import DeploymentLog

#: Pulumi's operations that change something, as `events.CHANGES`, → what a plan calls them.
ACTIONS: dict[OpType, Action] = {
    OpType.CREATE: "create",
    OpType.UPDATE: "update",
    OpType.REPLACE: "replace",
    OpType.DELETE: "delete",
}


def planned(spec: ClusterSpec, log: DeploymentLog) -> list[Step]:
    """List what a deployment would do."""
    described = program.own(spec, "described", _described)
    found: list[Step] = described(spec, log.steps)
    return found


def first(spec: ClusterSpec, ask: Callable[[], Any]) -> list[Step]:
    """List what the first deployment would do; only what no platform knows is asked."""
    found: list[Step] = program.own(spec, "first", lambda spec: planned(spec, ask().log))(spec)
    return found


def _described(_spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    return [in_pulumis_words(step) for step in changes]


def in_pulumis_words(step: StepEventMetadata) -> Step:
    """Describe a resource that no platform describes: it is never hidden."""
    return Step(ACTIONS[step.op], "", step.urn.rpartition("::")[2], step.type)
