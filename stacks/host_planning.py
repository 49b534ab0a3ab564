"""What the engine's preview of a cluster on machines means to a person. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pulumi.automation.events import OpType, StepEventMetadata

from perennial.plan import Impact, Step
from perennial.platforms.hosts.plan import Side, steps
from perennial.spec import ClusterSpec

from .host_resources import packed
from .journal import entries
from .planning import in_pulumis_words

_MADE = Step("create", "", "certificates", "the certificate authority and Jupyter's token")


def described(spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    """List what a deployment would do, machine by machine; those that go come last."""
    names = [machine.called for machine in spec.options.machines]
    places = {machine: place for place, machine in enumerate(names)}
    found: list[Step] = []
    machines: dict[str, dict[str, StepEventMetadata]] = {}
    for step in changes:
        machine, _, kind = step.urn.rpartition("::")[2].rpartition("-")
        if kind in ("environment", "services"):
            machines.setdefault(machine, {})[kind] = step
        elif step.type.endswith(":ClusterAuthority"):
            found.append(_authority(step))
        else:
            found.append(in_pulumis_words(step))
    for machine in sorted(machines, key=lambda name: (places.get(name, len(places)), name)):
        found += _machine(machine, machines[machine])
    return found


def first(spec: ClusterSpec) -> list[Step]:
    """List what the first deployment of a cluster would do.

    Nothing is there to compare with, so the engine is not asked: it needs 50 ms for a machine.
    """
    found = [_MADE]
    for machine, entry in entries(spec).items():
        asked = {"share": packed(entry["share"]), "wish": packed(entry["wish"])}
        found += steps(machine, Side(), Side(_parsed(asked, "share"), _parsed(asked, "wish")), [])
    return found


def _authority(step: StepEventMetadata) -> Step:
    if step.op is OpType.UPDATE:
        return Step("update", "", "client certificate", "it expires soon")
    if step.op is OpType.DELETE:
        return replace(_MADE, action="delete")
    if step.op is OpType.REPLACE:
        return replace(_MADE, action="replace", impact=Impact.LOSES_WORK)
    return _MADE


def _machine(machine: str, parts: Mapping[str, StepEventMetadata]) -> list[Step]:
    services, environment = parts.get("services"), parts.get("environment")
    before, after = _outputs(services), _inputs(services)
    has, wants = _outputs(environment), _inputs(environment)
    drift = [*has.get("drift", []), *before.get("drift", [])]
    # An error names its machine, and so does every line of a plan.
    drift = [line.removeprefix(f"{machine}: ") for line in drift]
    outcome = _parsed(before, "outcome") or {}
    old = Side(
        _parsed(before, "share"),
        _parsed(has, "wish"),
        outcome.get("members"),
        outcome.get("init"),
    )
    new = Side(_parsed(after, "share"), _parsed(wants, "wish"))
    # Both resources of a machine that cannot be reached say so; once is enough.
    return steps(machine, old, new, list(dict.fromkeys(drift)))


def _outputs(step: StepEventMetadata | None) -> Mapping[str, Any]:
    """Read what the engine remembers."""
    return (step.old.outputs or step.old.inputs or {}) if step and step.old else {}


def _inputs(step: StepEventMetadata | None) -> Mapping[str, Any]:
    """Read what is asked for."""
    if step is None or step.op is OpType.DELETE or step.new is None:
        return {}
    return step.new.inputs or {}


def _parsed(values: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    text = values.get(key)
    if not isinstance(text, str):
        return None
    found: dict[str, Any] = json.loads(text)
    return found
