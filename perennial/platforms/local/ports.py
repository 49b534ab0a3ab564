"""Whether this machine can give a cluster its ports, and who has them if not."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Collection, Iterator
from pathlib import Path

from perennial.errors import Fault
from perennial.spec import ClusterSpec
from perennial.spec.words import show
from perennial.supervision.listening import (
    LOOPBACK,
    addresses,
    belongs,
    describe,
    holder,
    listeners,
    meets,
    try_port,
)

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
        elif error and not belongs(pid := holder(address, port), own_pids):
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


def _count_free(address: str, ports: range, needed: int, own_pids: Collection[int]) -> int:
    """Count the ports that are free or the cluster's own, up to what is needed."""
    own = {
        port
        for ip, port, pid in listeners()
        if port in ports and meets(ip, address) and belongs(pid, own_pids)
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
