"""What the engine's preview of a cluster on machines means to a person. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pulumi.automation.events import OpType, StepEventMetadata

from perennial.plan import Impact, Step
from perennial.platforms.hosts.plan import MachineState, steps
from perennial.spec import ClusterSpec

from . import engine
from .events import machine_of
from .journal import entries
from .planning import in_pulumis_words
from .provider.hosts import HostEnvironment, HostServices, machine_state
from .provider.kinds import State
from .provider.values import decoded

_ENVIRONMENT, _SERVICES = HostEnvironment(), HostServices()
_MADE = Step("create", "", "certificates", "the certificate authority and Jupyter's token")


def described(spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    """List what a deployment would do, machine by machine; those that go come last."""
    names = [machine.called for machine in spec.options.machines]
    places = {machine: place for place, machine in enumerate(names)}
    found: list[Step] = []
    machines: dict[str, dict[str, StepEventMetadata]] = {}
    for step in changes:
        kind = engine.kind_of(step.type)
        if kind in engine.MACHINE_KINDS:
            machines.setdefault(machine_of(step), {})[kind] = step
        elif kind.endswith("Authority"):
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
        found += steps(machine, MachineState(), MachineState(entry["share"], entry["wish"]), [])
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
    services, environment = parts.get("HostServices"), parts.get("HostEnvironment")
    before, has = _SERVICES.upgraded(_old(services)), _ENVIRONMENT.upgraded(_old(environment))
    drift = [*has.outputs.get("drift", []), *before.outputs.get("drift", [])]
    # An error names its machine, and so does every line of a plan.
    drift = [line.removeprefix(f"{machine}: ") for line in drift]
    old = replace(machine_state(before), environment=has.inputs.get("environment"))
    new = replace(
        machine_state(_new(services)), environment=_new(environment).inputs.get("environment")
    )
    # Both resources of a machine that cannot be reached say so; once is enough.
    return steps(machine, old, new, list(dict.fromkeys(drift)))


def _old(step: StepEventMetadata | None) -> State:
    """Read what the engine remembers."""
    if step is None or step.old is None:
        return State()
    return State(decoded(step.old.inputs or {}), decoded(step.old.outputs or {}))


def _new(step: StepEventMetadata | None) -> State:
    """Read what is asked for."""
    if step is None or step.op is OpType.DELETE or step.new is None:
        return State()
    return State(decoded(step.new.inputs or {}))
