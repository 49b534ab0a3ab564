"""Whether there is anything to do at all, without the engine: it needs seconds to say no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.platforms.hosts import machine_services, machine_spec
from perennial.spec import ClusterSpec
from perennial.spec.words import plural

from . import engine
from .events import bookkeeping
from .journal import Journal
from .provider.authority import ends_soon
from .provider.hosts import (
    HostEnvironment,
    HostServices,
    changed,
    digest,
    environment,
    environment_inputs,
    target,
)
from .provider.kinds import State
from .provider.remembered import EnvironmentOutputs, ServicesOutputs
from .provider.values import decoded

#: Machines that are looked at side by side.
AT_ONCE = 16

_ENVIRONMENT, _SERVICES = HostEnvironment(), HostServices()

#: A machine and the kind of its resource; the authority is nobody's.
ResourceKey = tuple[str, str]


def unchanged(spec: ClusterSpec, folder: Path, say: Callable[[str], None]) -> int:
    """Count the resources that are as the cluster file says; 0 when the engine has to look."""
    latest = engine.state(folder, spec.name)
    own = spec.jupyter is not None and spec.jupyter.certificate is not None
    # An operator's own certificate is encrypted in the state, and cannot be compared here.
    if own or _cut_off(folder, latest):
        return 0
    resources = {
        (engine.machine_of(one) if kind in engine.MACHINE_KINDS else "", kind): one
        for one in latest.get("resources") or []
        if (kind := engine.kind_of(one["type"])) and not bookkeeping(one["type"])
    }
    specs = machine_spec.machine_specs(spec)
    by_machine = {
        name: machine_services.services_of(machine_spec.read(values))
        for name, values in specs.items()
    }
    if not _as_asked(_wanted(spec, specs, by_machine), resources):
        return 0
    if not set(Journal(folder).entries()) <= engine.machines(latest):
        return 0
    say(f"looking at {plural(len(engine.machines(latest)), 'machine')}")
    return len(resources) if _as_found(by_machine, resources) else 0


def _cut_off(folder: Path, latest: Mapping[str, Any]) -> bool:
    """Whether a deployment did not come to its end."""
    return bool(latest.get("pending_operations")) or bool(engine.locks(folder))


def _wanted(
    spec: ClusterSpec,
    specs: Mapping[str, machine_spec.MachineInputs],
    by_machine: Mapping[str, machine_services.MachineServices],
) -> dict[ResourceKey, Mapping[str, Any]]:
    """Say which inputs each resource has to have been made with."""
    found: dict[ResourceKey, Mapping[str, Any]] = {("", "Authority"): {"cluster": spec.name}}
    for machine, assigned in by_machine.items():
        found[machine, "HostEnvironment"] = environment_inputs(spec, specs[machine], assigned)
        found[machine, "HostServices"] = {"digest": digest(assigned)}
    return found


def _as_asked(
    wanted: Mapping[ResourceKey, Mapping[str, Any]],
    resources: Mapping[ResourceKey, Mapping[str, Any]],
) -> bool:
    """Whether the engine was asked for just this before, and has done it."""
    return wanted.keys() == resources.keys() and all(
        _holds(resources[place], values) for place, values in wanted.items()
    )


def _holds(resource: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether a resource was made with these inputs, and nothing about it is pending."""
    if not resource["type"].startswith("perennial:") or resource.get("initErrors"):
        return False
    inputs, outputs = resource.get("inputs") or {}, resource.get("outputs") or {}
    same = all(inputs.get(key) == value for key, value in values.items())
    return same and not outputs.get("drift") and not ends_soon(outputs.get("ends"))


def _as_found(
    by_machine: Mapping[str, machine_services.MachineServices], resources: Mapping[ResourceKey, Any]
) -> bool:
    """Whether every machine is as it was left."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looks = pool.map(
            _whole,
            by_machine.values(),
            [_SERVICES.upgraded(_state(resources[name, "HostServices"])) for name in by_machine],
            [
                _ENVIRONMENT.upgraded(_state(resources[name, "HostEnvironment"]))
                for name in by_machine
            ],
        )
        return all(looks)


def _state(resource: Mapping[str, Any]) -> State:
    return State(decoded(resource["inputs"]), decoded(resource["outputs"]))


def _whole(assigned: machine_services.MachineServices, services: State, made: State) -> bool:
    from perennial.platforms.hosts import deploy

    outcome = ServicesOutputs.read(services.outputs).outcome
    facts: Mapping[str, Any] = EnvironmentOutputs.read(made.outputs).facts or {}
    if not outcome or ends_soon(outcome.get("expires")):
        return False
    try:
        found = deploy.look_environment(target(made.inputs), environment(made.inputs), facts)
        if found is None or changed(facts, found):
            return False
        return not deploy.look_services(assigned, outcome)
    except PerennialError:
        return False  # the engine goes there once more, and says what is in the way
