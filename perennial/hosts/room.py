"""What a cluster's members may use, against what each of its machines can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.capacity import Capacity, Machine, Use, refusal, total
from perennial.errors import FleetError
from perennial.services import Service
from perennial.sizes import of_member
from perennial.spec import ClusterSpec

if TYPE_CHECKING:
    from perennial.hosts.remote import Agent
    from perennial.hosts.share import Share

#: Services which take memory that members cannot have.
_BESIDE = ("scheduler", "jupyter", "scaler")


def uses(spec: ClusterSpec, groups: Iterable[str]) -> dict[str, Use]:
    """Say what a member of each group may use."""
    return {name: of_member(spec.workers[name]) for name in groups if name in spec.workers}


def services(parts: Iterable[Service]) -> int:
    """Add up the memory that a machine's other services may use."""
    return sum(part.limits.memory or 0 for part in parts if part.role in _BESIDE)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a machine has, and what of the cluster stands there."""

    #: Its cores and its memory.
    machine: Machine
    #: What it remembers of the cluster; empty where there is nothing.
    manifest: Mapping[str, Any]


def look(agent: Agent, cluster: str) -> Standing:
    """Ask a machine what it has."""
    manifest = agent.ask("manifest", cluster=cluster)
    return Standing(Machine(**agent.ask("machine")), manifest)


def refuse(
    spec: ClusterSpec, share: Share, now: Standing, sizes: Mapping[str, int], before: ClusterSpec
) -> None:
    """Refuse sizes which a machine cannot hold, unless as much stands there already."""
    had = {**now.manifest.get("sizes", {}), **now.manifest.get("numbers", {})}
    counts = {name: size if isinstance(size, int) else len(size) for name, size in had.items()}
    stands = total(use * counts[name] for name, use in uses(before, counts).items())
    holds = Capacity(now.machine.cores, now.machine.memory, services(share.services))
    machine = share.target.name
    if why := refusal(uses(spec, sizes), sizes, holds, stands, machine):
        raise FleetError(f"{machine}: {why}")
