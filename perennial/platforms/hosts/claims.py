"""Which names a cluster takes on a machine that another cluster there could take as well. Pure.

A unit is named after its cluster and its group with a dash between them, and both may have dashes
of their own: the group ``gpu`` of ``lab`` has the target that ``lab-gpu`` has as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perennial import render
from perennial.errors import FleetError
from perennial.platforms.hosts.machine_services import MachineServices
from perennial.services import Service


def claims(assigned: MachineServices) -> list[str]:
    """List the units and system users of a machine; without root it takes no name of anybody's."""
    cluster, parts = assigned.cluster, assigned.services
    if not parts or not assigned.target.needs_root:
        return []
    return [*_units(cluster, parts), *render.users(cluster, parts)]


def _units(cluster: str, parts: Sequence[Service]) -> list[str]:
    found = [render.target_name(cluster)]
    for part in parts:
        found.append(render.unit_name(cluster, part))
        if part.group is not None:
            found.append(render.target_name(cluster, part.group))
    return found


def refuse(machine: str, cluster: str, clashes: Sequence[Any]) -> None:
    """Refuse names that another cluster has on a machine."""
    for other, name in clashes:
        kind = "unit" if name.endswith((".service", ".target")) else "user"
        raise FleetError(
            f"{machine}: the {kind} {name} of {cluster} is also that of the cluster {other} there;"
            f" rename {cluster} or its group, or deploy it to another machine"
        )
