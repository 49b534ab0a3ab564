"""What a cluster's members and its other services may use. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from perennial.capacity import Use
from perennial.services import Service
from perennial.sizes import of_member
from perennial.spec import ClusterSpec

#: Services which take memory that members cannot have.
_BESIDE = ("scheduler", "jupyter", "scaler")


def uses(spec: ClusterSpec) -> dict[str, Use]:
    """Say what a member of each group may use."""
    return {name: of_member(group) for name, group in spec.workers.items()}


def services(parts: Iterable[Service]) -> int:
    """Add up the memory that a machine's other services may use."""
    return sum(part.limits.memory or 0 for part in parts if part.role in _BESIDE)
