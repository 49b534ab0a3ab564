"""HTTP over a unix socket, whatever the length of its path. Standard library alone."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePath
from threading import Timer
from time import monotonic

#: Bytes of the longest page that is read: of ten thousand workers it has some 10 MB.
LONGEST = 2**26
#: Seconds that a page may take as a whole.
PATIENCE = 60.0


@contextmanager
def short(path: str) -> Iterator[str]:
    """Name a socket in few letters for a moment: 107 bytes are the most (unix(7))."""
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


def get(connection: http.client.HTTPConnection, path: str) -> bytes | None:
    """Ask for a page; None when it is not answered with 200, or does not end."""
    status, body = answer(connection, path) or (0, b"")
    return body if status == http.client.OK else None


def answer(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes] | None:
    """Ask for a page; its status and body, None for nobody or for a page that does not end.

    Whoever may run code in a scheduler writes its pages.
    """
    end, timer = monotonic() + PATIENCE, None
    try:
        connection.connect()
        timer = Timer(PATIENCE, _cut, [connection.sock])
        timer.daemon = True
        timer.start()
        connection.request("GET", path)
        found = connection.getresponse()
        body = found.read(LONGEST + 1)
        whole = len(body) <= LONGEST and monotonic() < end
        return (found.status, body) if whole else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()


def _cut(connected: socket.socket) -> None:
    """End an answer that goes on and on: a socket's own timeout begins anew with each byte."""
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
