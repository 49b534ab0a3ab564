"""Notify systemd of a service's state (``sd_notify``); the standard library alone."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger("distributed.perennial.ready")


def notify(*lines: str) -> None:
    """Send lines to the service manager, where there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path  # @ is an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)  # a service manager that is slow must not hold Dask up
            channel.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        logger.warning("NOTIFY_SOCKET %s took no %s: %s", path, lines[0], error)
