"""Which services a machine runs, under which names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perennial.platforms.hosts.agent.answers import Manifest
from perennial.platforms.hosts.keeper import as_one_service
from perennial.platforms.hosts.machine_services import MachineServices, Size, numbers


@dataclass(frozen=True, slots=True)
class Placed:
    """A service where it is."""

    #: The machine's name.
    machine: str
    #: Its unit or program there.
    unit: str
    #: ``scheduler``, ``jupyter`` or Dask's name of the worker.
    name: str
    #: The worker group.
    group: str | None


def placed_on(
    assigned: MachineServices, cluster: str, machine: str, manifest: Manifest
) -> list[Placed]:
    """List the services that a machine shall run now."""
    sizes: dict[str, Size] = {**assigned.counts, **manifest.get("sizes", {})}
    sizes |= manifest.get("numbers", {})
    booted = manifest.get("init", "systemd") == "systemd"
    found = []
    for part in assigned.services if booted else as_one_service(assigned.services):
        members: Sequence[int | None] = [None] if part.group is None else numbers(sizes[part.group])
        for number in members:
            name = part.name if number is None else part.member(str(number)).name
            unit = name
            if booted:
                instance = part.name if number is None else f"{part.group}@{number}"
                unit = f"dask-{cluster}-{instance}.service"
            found.append(Placed(machine, unit, name, part.group))
    return found


def concerned(assigned: MachineServices, machine: str, word: str | None) -> bool:
    """Whether a machine that does not answer may have what a person has named."""
    if word in (None, machine):
        return True
    number = str(word).rpartition("-")[2]
    return any(
        word in (part.name, part.group)
        or (part.group is not None and number.isdecimal() and part.member(number).name == word)
        for part in assigned.services
    )
