"""Fetch a page by HTTP that anybody may have written, within bounds. Standard library alone."""

from __future__ import annotations

import http.client
import socket
from contextlib import suppress
from threading import Timer
from time import monotonic

#: Bytes of the longest page that is read: of ten thousand workers it has some 10 MB.
LONGEST = 2**26
#: Seconds that a page may take as a whole.
TIMEOUT = 60.0


def get(connection: http.client.HTTPConnection, path: str) -> bytes | None:
    """Ask for a page; None when it is not answered with 200, or does not end."""
    status, body = answer(connection, path) or (0, b"")
    return body if status == http.client.OK else None


def answer(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes] | None:
    """Ask for a page; its status and body, None for nobody or for a page that does not end.

    Whoever may run code in a scheduler writes its pages.
    """
    end, timer = monotonic() + TIMEOUT, None
    try:
        connection.connect()
        timer = Timer(TIMEOUT, _cut, [connection.sock])
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
