"""What a doctor asks: who listens where, what can be reached, how full the disk is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from perennial.hosts.agent.facts import family, members
from perennial.hosts.probing import listening, probe

__all__ = ["free", "listening_ports", "probe"]


def listening_ports(cluster: str) -> dict[str, list[int]]:
    """Ports on which each service listens, by unit or program; its children's are its own."""
    found = {}
    for name, member in members(cluster).items():
        if member["pid"]:
            ports = listening(list(family(member["pid"])))
            found[name] = sorted({port for some in ports.values() for port in some})
    return found


def free(folders: Sequence[str]) -> dict[str, int]:
    """Count the bytes of free disk where folders are, or would be made."""
    found = {}
    for folder in folders:
        place = Path(folder)
        while not place.is_dir():
            place = place.parent
        found[folder] = shutil.disk_usage(place).free
    return found
