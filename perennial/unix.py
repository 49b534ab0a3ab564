"""HTTP over a unix socket, whatever the length of its path. Standard library alone."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath


@contextmanager
def short(path: str) -> Iterator[str]:
    """Yield a short path of a socket: it may have 107 bytes at most (unix(7))."""
    whole = PurePath(path)
    folder = os.open(whole.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{whole.name}"
    finally:
        os.close(folder)


class UnixConnection(http.client.HTTPConnection):
    """HTTP with whoever listens on a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short(self._path) as path:
            self.sock.connect(path)
