"""Components for programs in any language: the provider constructs them as a program would."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.provider import ConstructResult

from .base import OUTPUTS
from .hosts import HostsCluster
from .kubernetes import KubernetesCluster
from .local import LocalCluster
from .provider.values import decoded

COMPONENTS = {each.component_type: each for each in (HostsCluster, LocalCluster, KubernetesCluster)}


def construct(name: str, type_: str, inputs: Any, options: Any) -> ConstructResult:
    """Construct a component; its inputs have the keys of a cluster file, and `force`."""
    known = decoded(dict(inputs))  # the engine hands every number over as a float
    force = bool(known.pop("force", False))
    made = COMPONENTS[type_](name, known, options, force=force)
    outputs: dict[str, pulumi.Input[Any]] = {each: getattr(made, each) for each in OUTPUTS}
    return ConstructResult(urn=made.urn, state=outputs)
