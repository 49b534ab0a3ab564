"""Client of the control socket of the `ssh` process that holds a connection.

The protocol is OpenSSH's own, which its ``PROTOCOL.mux`` describes; version 4 of it has been the
same since OpenSSH 5.8. One socket serves one request: it stays open for as long as the process or
the forwarding that was asked for, and closing it ends that.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_VERSION = 4
_HELLO = 0x00000001
_NEW_SESSION, _ALIVE_CHECK = 0x10000002, 0x10000004
_OPEN_FORWARD, _STDIO_FORWARD = 0x10000006, 0x10000008
_OK, _DENIED, _FAILURE, _EXIT = 0x80000001, 0x80000002, 0x80000003, 0x80000004
_ALIVE, _OPENED = 0x80000005, 0x80000006
_LOCAL = 1
#: In the place of a port: the host is the path of a unix socket.
_UNIX = 2**32 - 2
_NO_ESCAPE = 2**32 - 1
#: Longest message that is believed.
_LONGEST = 1 << 20
_MALFORMED = "the control socket of ssh sent an unexpected answer"


class RefusedError(Exception):
    """The request was refused; its text is the reason, in the words of ssh or of the machine."""


class Control:
    """A connection to the control socket; raises OSError where nobody answers there."""

    def __init__(self, path: Path, timeout: float | None = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._send(_HELLO, struct.pack(">I", _VERSION))
            if self._receive() != (_HELLO, struct.pack(">I", _VERSION)):
                raise ConnectionError(_MALFORMED)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it, which ends what was asked for."""
        self._socket.close()

    def cut(self) -> None:
        """End what was asked for, while another thread waits for it."""
        with suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def fileno(self) -> int:
        """Return what to wait on."""
        return self._socket.fileno()

    def alive(self) -> int:
        """Return the process id of the `ssh` that holds the connection."""
        body = self._ask(_ALIVE_CHECK, b"", (), _ALIVE)
        return int(struct.unpack(">I", body[:4])[0])

    def start(self, command: str, files: Sequence[int]) -> None:
        """Start a process on the machine, with three files: of its input, output and errors.

        Nothing goes along: no terminal, no X11, no agent, no subsystem and no environment.
        """
        body = _text("") + struct.pack(">5I", 0, 0, 0, 0, _NO_ESCAPE) + _text("") + _text(command)
        self._ask(_NEW_SESSION, body, files, _OPENED)

    def connect(self, host: str, port: int, files: Sequence[int]) -> None:
        """Have the machine connect to a port, with two files: what is sent, what is received."""
        body = _text("") + _text(host) + struct.pack(">I", port)
        self._ask(_STDIO_FORWARD, body, files, _OPENED)

    def forward(self, path: Path, host: str, port: int) -> None:
        """Let a unix socket of this machine lead to a port, as the other machine sees it."""
        body = struct.pack(">I", _LOCAL) + _text(str(path)) + struct.pack(">I", _UNIX)
        self._ask(_OPEN_FORWARD, body + _text(host) + struct.pack(">I", port), (), _OK)

    def exit_status(self, timeout: float | None) -> int | None:
        """Wait for the end of the process that was started; None where it has no exit status.

        TimeoutError says that it has not ended yet.
        """
        self._socket.settimeout(timeout)
        status: int | None = None
        try:
            while True:
                kind, body = self._receive()
                if kind == _EXIT:
                    status = int(struct.unpack(">I", body[4:8])[0])
        except TimeoutError:
            if status is None:
                raise
        except OSError:  # the socket has ended, and with it the answers
            pass
        return status

    def _ask(self, kind: int, body: bytes, files: Sequence[int], wanted: int) -> bytes:
        self._send(kind, struct.pack(">I", 0) + body)
        for each in files:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [each]))
            self._socket.sendmsg([b"\0"], [rights])
        while True:
            found, said = self._receive()
            if found == wanted:
                return said[4:]
            if found in (_DENIED, _FAILURE):
                raise RefusedError(said[8:].decode(errors="replace"))
            if found != _OK:
                raise ConnectionError(_MALFORMED)

    def _send(self, kind: int, body: bytes) -> None:
        self._socket.sendall(struct.pack(">2I", 4 + len(body), kind) + body)

    def _receive(self) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", self._exactly(4))
        if not 4 <= length <= _LONGEST:
            raise ConnectionError(_MALFORMED)
        message = self._exactly(length)
        return int(struct.unpack(">I", message[:4])[0]), message[4:]

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the control socket of ssh was closed")
            data += part
        return data


def holder(path: Path, timeout: float | None = 10.0) -> int:
    """Return the process that holds the connection, as a pidfd; OSError where none does."""
    control = Control(path, timeout)
    try:
        return os.pidfd_open(control.alive())
    finally:
        control.close()


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">I", len(data)) + data
