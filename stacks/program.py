"""What `pulumi up` and `perennial up` both run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pulumi
import yaml

from perennial.errors import Fault, PerennialError, SpecError
from perennial.registry import PLATFORMS
from perennial.spec import ClusterSpec, loads

from .base import OUTPUTS

#: Where a cluster's keys stand in a stack's file.
KEY = "perennial:cluster"


def main() -> None:
    """Deploy the cluster that the stack's configuration describes."""
    config = pulumi.Config("perennial")
    try:
        spec, force = configured(config), bool(config.get_bool("force"))
    except PerennialError as error:
        # One line for each fault and no traceback: this ends the program, and Pulumi says so.
        raise pulumi.RunError(str(error)) from None
    deploy(spec, force)


def deploy(spec: ClusterSpec, force: bool = False) -> None:
    """Register a cluster with the engine and export what it tells."""
    cluster = import_module(PLATFORMS[spec.platform].stack).Cluster(spec.name, spec, force=force)
    for output in OUTPUTS:
        pulumi.export(output, getattr(cluster, output))


def own(spec: ClusterSpec, name: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Find a function that the stack of a platform may have, see `perennial.stacks.hosts`."""
    found: Callable[..., Any] = getattr(
        import_module(PLATFORMS[spec.platform].stack), name, otherwise
    )
    return found


def configured(config: pulumi.Config) -> ClusterSpec:
    """Read the cluster from a stack's configuration."""
    text = config.get("cluster")
    if text is None:
        return _loaded(from_answers(config), "perennial:machines")
    try:
        value = json.loads(text)  # so Pulumi hands an object over
    except ValueError:
        return loads(text, KEY)
    return _loaded(value, KEY)


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
        raise SpecError([fault], f"Pulumi.{pulumi.get_stack()}.yaml")
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
        return loads(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), source)
    except SpecError as error:
        faults = [replace(fault, line=None) for fault in error.faults]
        raise SpecError(faults, error.source) from None
