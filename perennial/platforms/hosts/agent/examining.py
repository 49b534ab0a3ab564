"""What a doctor asks: who listens where, what can be reached, how full the disk is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from perennial.doctor.probing import listening, probe
from perennial.fetching import get
from perennial.platforms.hosts.agent.facts import family, members, sockets
from perennial.unix import UnixConnection

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


def page(socket: str, path: str) -> str | None:
    """Ask who listens on a unix socket for a page; None when it does not answer 200."""
    body = get(UnixConnection(socket, 10.0), path)
    return None if body is None else body.decode(errors="replace")


def serves(cluster: str, port: int) -> bool:
    """Whether a port is the cluster's own: its services listen there, and nobody else."""
    return is_of({m["pid"] for m in members(cluster).values() if m["pid"]}, port)


def is_of(own: Collection[int], port: int) -> bool:
    """Whether only some processes and their children listen on a port, and one of them does."""
    inodes = {inode for inode, _ in sockets([port])}
    ours = {inode for main in own for pid in family(main) for inode in _opened(pid)}
    return bool(inodes) and inodes <= ours


def _opened(pid: int) -> Iterator[str]:
    """List what a process has open, as /proc/PID/fd names it."""
    with suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield os.readlink(handle)
