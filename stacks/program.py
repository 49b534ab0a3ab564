"""What `pulumi up` and `perennial up` both run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

import pulumi
from pulumi.runtime import config as runtime

from perennial.errors import Fault, PerennialError, SpecError
from perennial.registry import PLATFORMS
from perennial.spec import ClusterSpec, loads
from perennial.spec.words import nearest, show_key

from . import inputs
from .base import OUTPUTS

Found = TypeVar("Found")

#: Where a cluster's keys stand in a stack's file.
KEY = "perennial:cluster"
_PREFIX = "perennial:"

#: What `pulumi new` asks for, and where that stands in a cluster file.
ANSWERS = {
    "name": "name",
    "machines": "hosts.machines",
    "python": "environment.python",
    "requirements": "environment.requirements",
    "workers": "workers.cpu.count",
    "threads": "workers.cpu.threads",
    "memory": "workers.cpu.memory",
}
#: All keys of a stack's configuration that are read.
KEYS = ("cluster", *ANSWERS, "force")


def main() -> None:
    """Deploy the cluster that the stack's configuration describes."""
    config = pulumi.Config("perennial")
    try:
        spec, force = configured(config), bool(config.get_bool("force"))
    except PerennialError as error:
        # One line for each fault and no traceback: this ends the program, and Pulumi says so.
        raise pulumi.RunError(str(error)) from None
    deploy(inputs.hidden(spec) if is_secret() else spec, force)


def deploy(args: ClusterSpec | inputs.Inputs, force: bool = False) -> None:
    """Register a cluster with the engine and export its outputs."""
    spec = args.spec if isinstance(args, inputs.Inputs) else args
    cluster = import_module(PLATFORMS[spec.platform].stack).Cluster(spec.name, args, force=force)
    for output in OUTPUTS:
        pulumi.export(output, getattr(cluster, output))


async def deploy_and_yield(args: inputs.Inputs, force: bool) -> None:
    """Register a cluster, and let the requests begin before Pulumi looks which there are.

    It waits for requests one by one, but where it finds none, for all outputs at once, and anew
    after each: a minute for a thousand machines.
    """
    deploy(args, force)
    await asyncio.sleep(0)


def is_secret() -> bool:
    """Whether any of the configuration is secret; Pulumi does not say which part of a key is."""
    return any(runtime.is_config_secret(f"{_PREFIX}{key}") for key in KEYS)


def own(spec: ClusterSpec, name: str, otherwise: Found) -> Found:
    """Find what the stack of a platform may have, see `perennial.stacks.hosts`."""
    found: Found = getattr(import_module(PLATFORMS[spec.platform].stack), name, otherwise)
    return found


def configured(config: pulumi.Config) -> ClusterSpec:
    """Read the cluster from a stack's configuration."""
    try:
        return _configured(config)
    except SpecError as error:
        if not is_secret():
            raise
        # A message is shown and kept where secrets must not be.
        raise error.without_values("a secret value") from None


def _configured(config: pulumi.Config) -> ClusterSpec:
    if faults := [*_misspelt()]:
        raise SpecError(faults, _file())
    text = config.get("cluster")
    if text is None:
        try:
            return _loaded(from_answers(config), _file())
        except SpecError as error:
            faults = [replace(fault, path=_asked(fault.path)) for fault in error.faults]
            raise SpecError(faults, error.source) from None
    try:
        value = json.loads(text)  # Pulumi passes an object as JSON
    except ValueError:
        return loads(text, KEY)
    return _loaded(value, KEY)


def _file() -> str:
    return f"Pulumi.{pulumi.get_stack()}.yaml"


def _misspelt() -> Iterator[Fault]:
    """Find keys that nothing reads."""
    given = {**runtime.get_config_env(), **runtime.CONFIG.get()}
    for key in sorted(given):
        name = key.removeprefix(_PREFIX)
        if key == name or name in KEYS:
            continue
        near = nearest(name, KEYS)
        fix = f"did you mean {_PREFIX}{near}?" if near else f"run `pulumi config rm {key}`"
        yield Fault(f"{_PREFIX}{show_key(name)}", "a key that nothing reads", ", ".join(KEYS), fix)


def _asked(path: str) -> str:
    """Name a fault of an answer by its key in the configuration."""
    for key, place in ANSWERS.items():
        if path.startswith(place):
            return f"{_PREFIX}{key}{path.removeprefix(place)}"
    return path


def from_answers(config: pulumi.Config) -> dict[str, Any]:
    """Make a cluster file of what `pulumi new` asks for."""
    machines = [part.strip() for part in (config.get("machines") or "").split(",") if part.strip()]
    if not machines:
        fault = Fault(
            KEY,
            "nothing",
            "an object with the keys of a cluster file, or perennial:machines",
            "set perennial:machines to the addresses of your machines",
        )
        raise SpecError([fault], _file())
    environment = {key: config.get(key) for key in ("python", "requirements") if config.get(key)}
    return {
        "name": config.get("name") or pulumi.get_stack(),
        "platform": "hosts",
        "environment": environment,
        "workers": {
            "cpu": {
                "count": _whole(config, "workers", max(1, len(machines) - 1)),
                "threads": _whole(config, "threads", 1),
                "memory": config.get("memory") or "4 GiB",
            }
        },
        "hosts": {"machines": machines},
    }


def _whole(config: pulumi.Config, key: str, default: int) -> int | str:
    """Read a whole number; anything else is left to the cluster file's own checks."""
    found = config.get(key)
    if not found:
        return default
    return int(found) if found.isascii() and found.isdigit() else found


def _loaded(value: Any, source: str) -> ClusterSpec:
    """Validate a cluster as its file would be; its faults have no lines to be looked up."""
    try:
        return loads(inputs.dumped(value), source)
    except SpecError as error:
        raise error.without_lines() from None
