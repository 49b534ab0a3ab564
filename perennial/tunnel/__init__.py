"""Reaches a cluster that this machine has no route to; see `perennial.tunnel.keeping`."""

from perennial.tunnel.forwarding import LOOPBACK
from perennial.tunnel.keeping import (
    by_platform,
    close_tunnel,
    describe,
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
    "is_connected",
    "is_unreachable",
    "local",
    "open_tunnel",
    "through",
    "through_bastion",
]
