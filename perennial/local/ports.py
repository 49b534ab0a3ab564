"""Whether this machine can give a cluster its ports, and who has them if not."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from perennial.errors import Fault
from perennial.local import hold
from perennial.spec import ClusterSpec
from perennial.spec.words import shorten, show

LOOPBACK = "127.0.0.1"
_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def faults_of_address(spec: ClusterSpec) -> Iterator[Fault]:
    """Find what is wrong with the address on which a cluster shall listen."""
    address = spec.options.address
    if not _is_one_address(address) or try_port(address, 0):
        here = ", ".join(addresses()[:6])
        yield Fault(
            "local.address",
            show(address),
            f"an IP address of this machine, such as {here}",
            "write one of these",
        )


def faults_of_ports(spec: ClusterSpec, own_pids: Collection[int]) -> Iterator[Fault]:
    """Find the ports that a cluster cannot have."""
    for path, port in spec.ports().items():
        address = spec.options.address if path == "scheduler.port" else LOOPBACK
        error = try_port(address, port)
        if error == errno.EACCES:
            start = _UNPRIVILEGED.read_text().strip() if _UNPRIVILEGED.exists() else "1024"
            yield Fault(
                path,
                f"{port}, a privileged port",
                f"ports from {start}, or the right CAP_NET_BIND_SERVICE",
                "write a higher port",
            )
        elif error and not _is_own(pid := holder(address, port), own_pids):
            yield Fault(
                path,
                f"{port}, taken by {describe(pid)}",
                "a free port",
                f"stop that process or change {path}",
            )
    for name, group in spec.workers.items():
        if group.ports is None:
            continue
        first, last = group.ports
        needed = 2 * group.processes * group.most
        free = _count_free(spec.options.address, range(first, last + 1), needed, own_pids)
        if free < needed:
            yield Fault(
                f"workers.{name}.ports",
                f"{free} free of the ports {first}:{last}",
                f"at least {needed} free ports: a worker process and its nanny take one each",
                "choose another range",
            )


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
    return next((pid for ip, at, pid in listeners() if at == port and _meet(ip, address)), None)


def is_of(lock_path: str | os.PathLike[str], port: int, address: str = LOOPBACK) -> bool:
    """Whether what listens on a port is the service that holds a lock, or its child."""
    pid, _ = hold.holder(lock_path)
    return bool(pid) and _is_own(holder(address, port), {pid})


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


def _meet(listening: str, address: str) -> bool:
    return listening == address or ipaddress.ip_address(listening).is_unspecified


def _is_own(pid: int | None, own_pids: Collection[int]) -> bool:
    """Whether a process is one of the cluster's, or was started by one of them."""
    with suppress(psutil.Error):
        if pid is not None:
            family = [pid, *(parent.pid for parent in psutil.Process(pid).parents())]
            return not set(own_pids).isdisjoint(family)
    return False


def _count_free(address: str, ports: range, needed: int, own_pids: Collection[int]) -> int:
    """Count the ports that are free or the cluster's own, up to what is needed."""
    own = {
        port
        for ip, port, pid in listeners()
        if port in ports and _meet(ip, address) and _is_own(pid, own_pids)
    }
    free = 0
    for port in ports:
        free += port in own or not try_port(address, port)
        if free == needed:
            break
    return free


def _is_one_address(address: str) -> bool:
    try:
        return not ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False
