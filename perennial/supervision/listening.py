"""Who listens on which port of this machine."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Collection
from contextlib import suppress

import psutil

from perennial.spec.words import shorten
from perennial.supervision import single_instance

LOOPBACK = "127.0.0.1"


def try_port(address: str, port: int) -> int:
    """Bind a port for a moment, as a service would; the system's error number, or 0."""
    [(family, kind, protocol, _, target), *_] = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(target)
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def free_port(wanted: int) -> int:
    """Find a free port on loopback: the wanted one, or the next one that is free."""
    return next(port for port in range(wanted, 65536) if not try_port(LOOPBACK, port))


def addresses() -> list[str]:
    """List the IP addresses of this machine, IPv4 first."""
    found = [
        each.address
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family in (socket.AF_INET, socket.AF_INET6) and "%" not in each.address
    ]
    return sorted(dict.fromkeys(found), key=lambda address: ":" in address)


def holder(address: str, port: int) -> int | None:
    """Find the process that listens on a port; None when this user may not see it."""
    return next((pid for ip, at, pid in listeners() if at == port and meets(ip, address)), None)


def is_of(lock_path: str | os.PathLike[str], port: int) -> bool:
    """Whether what listens on a port of loopback is the service that holds a lock, or its child."""
    pid, _ = single_instance.holder(lock_path)
    return bool(pid) and belongs(holder(LOOPBACK, port), {pid})


def describe(pid: int | None) -> str:
    """Name a process by its id and command."""
    with suppress(psutil.Error):
        if pid is not None:
            process = psutil.Process(pid)
            command = " ".join(process.cmdline()) or process.name()
            return f"process {pid} (`{shorten(command)}`)"
    return "a process that this user may not see"


def listeners() -> list[tuple[str, int, int | None]]:
    """List address, port and process of every socket that listens."""
    with suppress(psutil.Error):
        return [
            (each.laddr.ip, each.laddr.port, each.pid)
            for each in psutil.net_connections(kind="tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr
        ]
    return []


def meets(listening: str, address: str) -> bool:
    """Whether what listens on one address takes connections to another."""
    return listening == address or ipaddress.ip_address(listening).is_unspecified


def belongs(pid: int | None, own_pids: Collection[int]) -> bool:
    """Whether a process is one of the cluster's, or was started by one of them."""
    with suppress(psutil.Error):
        if pid is not None:
            family = [pid, *(parent.pid for parent in psutil.Process(pid).parents())]
            return not set(own_pids).isdisjoint(family)
    return False
