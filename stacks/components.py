"""Components for programs in any language: the provider constructs them as a program would."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pulumi
from pulumi.provider import ConstructResult

from perennial.registry import PLATFORMS

from .base import OUTPUTS, ClusterComponent
from .provider.values import decoded

#: Type of a component → its platform, whose module alone needs that platform's library.
COMPONENTS = {f"perennial:index:{name.capitalize()}Cluster": name for name in PLATFORMS}


def component(type_: str) -> type[ClusterComponent]:
    """Return the component of a type."""
    found: type[ClusterComponent] = import_module(PLATFORMS[COMPONENTS[type_]].stack).Cluster
    return found


def construct(name: str, type_: str, inputs: Any, options: Any) -> ConstructResult:
    """Construct a component; its inputs have the keys of a cluster file, and `force`."""
    known = decoded(dict(inputs))  # the engine hands every number over as a float
    force = bool(known.pop("force", False))
    for settings in (known, *_mappings(known.get("workers"))):
        if "dask" in settings:
            settings["dask"] = _with_nulls(settings["dask"])
    made = component(type_)(name, known, options, force=force)
    outputs: dict[str, pulumi.Input[Any]] = {each: getattr(made, each) for each in OUTPUTS}
    return ConstructResult(urn=made.urn, state=outputs)


def _mappings(value: Any) -> list[dict[str, Any]]:
    """List the mappings of one by name; what else stands there is refused with the rest."""
    inner = value.values() if isinstance(value, dict) else ()
    return [each for each in inner if isinstance(each, dict)]


def _with_nulls(value: Any) -> Any:
    """Read the text `null` as Dask reads it of its environment: the engine drops the other one."""
    if isinstance(value, pulumi.Output):
        return value.apply(_with_nulls)
    if isinstance(value, dict):
        return {key: _with_nulls(inner) for key, inner in value.items()}
    return None if value == "null" else value
