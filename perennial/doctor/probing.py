"""Looks from a machine at what others can be reached, and at what listens on it.

Runs on the machines as well, as a part of the agent: the standard library alone.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

#: What `probe` answers.
OPEN, REFUSED, TIMEOUT = "open", "refused", "timeout"
NO_ROUTE, FORBIDDEN, UNKNOWN_NAME = "no route", "forbidden", "unknown name"

_AT_ONCE = 64
_LISTEN = "0A"


def probe(targets: Iterable[Sequence[str | int]], timeout: float = 3.0) -> list[str]:
    """Try to connect to ports, all at once; nothing is sent to them."""
    places = [(str(host), int(port)) for host, port in targets]
    if not places:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(places))) as pool:
        return list(pool.map(lambda place: _probe(place[0], place[1], timeout), places))


def _probe(host: str, port: int, timeout: float) -> str:
    try:
        socket.create_connection((host, port), timeout).close()
    except socket.gaierror:
        return UNKNOWN_NAME
    except socket.timeout:  # noqa: UP041 - TimeoutError is another one before Python 3.10
        return TIMEOUT
    except OSError as error:
        known = {
            errno.ECONNREFUSED: REFUSED,
            errno.ETIMEDOUT: TIMEOUT,
            errno.EHOSTUNREACH: NO_ROUTE,
            errno.ENETUNREACH: NO_ROUTE,
            errno.EPERM: FORBIDDEN,
            errno.EACCES: FORBIDDEN,
        }
        return known.get(error.errno or 0) or str(error.strerror or error)
    return OPEN


def own_address(host: str, port: int) -> str:
    """Say from which address this machine would connect; empty where it has no route."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.connect(place)  # UDP: nothing is sent
            return str(sock.getsockname()[0])
    except OSError:
        return ""


def listening(pids: Iterable[int]) -> dict[int, list[int]]:
    """Say at which ports processes listen that others can reach; those of loopback are left out."""
    return {pid: sorted(_ports(pid)) for pid in pids}


def _ports(pid: int) -> set[int]:
    inodes = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue  # closed meanwhile
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    except OSError:
        return set()
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            # The process's own table: it may live in another network namespace.
            with open(f"/proc/{pid}/net/{table}") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        for row in rows:
            if row[3] == _LISTEN and row[9] in inodes:
                address, _, port = row[1].partition(":")
                if not _is_loopback(address):
                    found.add(int(port, 16))
    return found


def _is_loopback(words: str) -> bool:
    """Read an address as the kernel writes it: words of 32 bits in the machine's own order."""
    parts = [int(words[start : start + 8], 16) for start in range(0, len(words), 8)]
    address = ip_address(struct.pack(f"={len(parts)}I", *parts))
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
