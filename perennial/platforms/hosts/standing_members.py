"""Groups whose members the scaler chooses, seen by a deploy: it keeps whom it finds. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from perennial.platforms.hosts.agent.answers import Manifest, Member
from perennial.platforms.hosts.machine_services import MachineServices, Size
from perennial.sizes import sizes

#: States of a unit in which it runs, or is about to.
_ALIVE = ("active", "activating", "reloading")


def chosen(
    assigned: MachineServices, manifest: Manifest, members: Mapping[str, Member]
) -> dict[str, Size]:
    """Say how many members each group gets on a machine, or which ones.

    A count in the cluster file is a first size. Afterwards the size belongs to `perennial scale`,
    until the count is changed; or to the scaler for as long as there is one.
    """
    numbers = manifest.get("numbers", {})
    before = {**manifest.get("sizes", {}), **{name: len(own) for name, own in numbers.items()}}
    now: dict[str, Size] = dict(sizes(assigned.counts, manifest.get("declared", {}), before))
    for group in assigned.scaled:
        if group in numbers:
            now[group] = numbers[group]
        elif group in manifest.get("kept", {}):  # somebody has removed the keeper's file
            now[group] = _running(assigned, group, members)
        else:
            now[group] = list(range(before.get(group, assigned.counts[group])))
    return now


def counted(now: Mapping[str, Size]) -> dict[str, int]:
    """Count the members of each group."""
    return {group: size if isinstance(size, int) else len(size) for group, size in now.items()}


def _running(assigned: MachineServices, group: str, members: Mapping[str, Member]) -> list[int]:
    unit = rf"dask-{re.escape(assigned.cluster)}-{re.escape(group)}@([0-9]+)\.service"
    program = rf"{re.escape(group)}-{re.escape(assigned.target.name)}-([0-9]+)"
    whole = re.compile(f"(?:{unit}|{program})")
    alive = [unit for unit, now in members.items() if now["state"] in _ALIVE]
    matches = (whole.fullmatch(unit) for unit in alive)
    return sorted(int(match[1] or match[2]) for match in matches if match)
