"""Reaches a cluster that this machine has no route to; see `perennial.tunnel.manage`."""

from perennial.tunnel.forwarding import LOOPBACK
from perennial.tunnel.manage import (
    by_platform,
    close_tunnel,
    describe,
    forwarded,
    is_connected,
    is_unreachable,
    local,
    open_tunnel,
    through,
    through_bastion,
)

__all__ = [
    "LOOPBACK",
    "by_platform",
    "close_tunnel",
    "describe",
    "forwarded",
    "is_connected",
    "is_unreachable",
    "local",
    "open_tunnel",
    "through",
    "through_bastion",
]
