"""Ports for the tests: free ones that the kernel gives to nobody else meanwhile.

A port that was bound with 0 and released comes from the range that every outgoing connection takes
its own from, so another test may hold it, or its neighbour, a moment later.  These lie below that
range, each process of pytest-xdist has a slice of its own, and none comes back before all are used.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from pathlib import Path

#: Arguments of a scheduler: without an address its pages are on 8787, and so it is without a
#: dashboard, whose place some test of the usual ports then finds taken.
ANY_PAGES = ("--dashboard-address", "127.0.0.1:0")
NO_PAGES = ("--no-dashboard", *ANY_PAGES)

SLICES = 8


def _slice() -> range:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(given.read_text().split()[0]) if given.exists() else 32768
    length = (end - 10_000) // SLICES
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SLICES
    return range(10_000 + number * length, 10_000 + (number + 1) * length)


_PORTS = _slice()
# A run beside another one, or after it, begins elsewhere.
_next = itertools.count(random.SystemRandom().randrange(len(_PORTS)))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("", port)).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    for _ in _PORTS:
        port = _PORTS[next(_next) % len(_PORTS)]
        if _is_free(port):
            return port
    raise OSError(f"no free port in {_PORTS}")


def free_ports(number: int) -> list[int]:
    """Several, each another."""
    return [free_port() for _ in range(number)]


def free_range(number: int) -> range:
    """So many, one after the other."""
    ports = free_ports(number)
    while ports[-1] - ports[0] != number - 1:
        ports = [*ports[1:], free_port()]
    return range(ports[0], ports[-1] + 1)
