"""SSH to one machine: processes there, bytes in and bytes out."""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from perennial.errors import FleetError
from perennial.ssh import faults, masters
from perennial.ssh.attempt import UnreachableError
from perennial.ssh.folder import folder
from perennial.ssh.mux import Control, RefusedError
from perennial.ssh.target import Hop, label
from perennial.ssh.waiting import Wait

#: What is kept of a process's standard error.
_TAIL = 16_384
_CHUNK = 65_536
#: Seconds from the end of a process's output to its exit status, or to the news of a lost
#: connection.
_SETTLE = 1.0


class Session:
    """The connection to a machine; a context manager.

    The timeout is that of the connection to each machine on the way; a machine that may be
    starting is waited for where that is said.
    """

    def __init__(self, target: Hop, timeout: float = 20.0, wait: Wait | None = None) -> None:
        self.where = label(target)
        self._target = target
        self._timeout = timeout
        self._wait = wait
        self._master: masters.Master | None = None
        self._channels: list[Channel] = []
        #: Whether nobody of this run is to find the connection after its last use here.
        self.last = False

    def __enter__(self) -> Self:
        self._master = masters.acquire(self._target, self._timeout, self._wait)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        master, self._master = self._master, None
        if master is not None:
            masters.release(master, isinstance(error, UnreachableError), self.last)

    @property
    def master(self) -> masters.Master:
        """The process that holds the connection."""
        if self._master is None:
            raise RuntimeError("a Session is used in a with statement")
        return self._master

    def lost(self, timeout: float = 0.0) -> bool:
        """Whether the connection has ended, at the latest within some seconds."""
        return self.master.lost(timeout)

    def loss(self) -> UnreachableError:
        """Say that the connection ended in the middle."""
        return faults.lost(self.where)

    def control(self) -> Control:
        """Ask the process that holds the connection for something."""
        try:
            return Control(self.master.socket, self._timeout)
        except OSError:
            raise self.loss() from None

    def start(self, command: str) -> Channel:
        """Start a process on the machine."""
        channel = Channel(self, command)
        self._channels.append(channel)
        return channel


class Channel:
    """A process on a machine: bytes in, bytes out."""

    def __init__(self, session: Session, command: str) -> None:
        self._session = session
        self._buffer = bytearray()
        self._ended = False
        self._status: int | None = None
        self._control = session.control()
        self._errors = tempfile.TemporaryFile(dir=folder())  # noqa: SIM115 - open as long as this is
        theirs, self._in = os.pipe()
        self._out, output = os.pipe()
        try:
            files = [theirs, output, self._errors.fileno()]
            self._control.start(command, files)
        except RefusedError as error:
            self.close()
            raise FleetError(
                f"{session.where}: sshd starts no process ({error}); look at MaxSessions and "
                "ForceCommand there"
            ) from None
        except OSError:
            self.close()
            raise session.loss() from None
        finally:
            os.close(theirs)
            os.close(output)

    def close(self) -> None:
        """Close it; the process there, if it still runs, sees the end of its input."""
        self.close_stdin()
        if self._out >= 0:
            os.close(self._out)
            self._out = -1
        self._control.close()
        self._errors.close()

    def cut(self) -> None:
        """End it while another thread waits for it: its output ends, and its input there."""
        self._control.cut()

    @property
    def stderr(self) -> str:
        """The end of what the process has written to standard error."""
        size = os.fstat(self._errors.fileno()).st_size
        start = max(0, size - _TAIL)
        return os.pread(self._errors.fileno(), _TAIL, start).decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Send bytes to its standard input; returns when little of them waits here."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._in, view) :]
        except BrokenPipeError:
            status = self.wait(_SETTLE)
            raise self.fault(status) from None

    def read(self, size: int, timeout: float | None = None) -> bytes:
        """Read from its standard output: that many bytes, fewer only where it ends."""
        self._fill(lambda: len(self._buffer) >= size, timeout)
        return self._take(size)

    def readline(self, timeout: float | None = None) -> bytes:
        """Read a line of any length with its end; empty where the output ends."""
        self._fill(lambda: b"\n" in self._buffer, timeout)
        found = self._buffer.find(b"\n")
        return self._take(found + 1 if found >= 0 else len(self._buffer))

    def close_stdin(self) -> None:
        """Tell the process that nothing more comes."""
        if self._in >= 0:
            os.close(self._in)
            self._in = -1

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; what it wrote meanwhile stays to be read."""
        # Its output is read all the while: a process that cannot write would never end.
        self._fill(lambda: False, timeout)
        if self._status is None:
            self._settle(timeout)
        if self._status is None:
            raise self._silent(timeout)
        return self._status

    def fault(self, status: int) -> FleetError:
        """Return why the process failed: a password for sudo, a missing command, its last lines."""
        return faults.process_fault(self._session.where, status, self.stderr)

    def _fill(self, enough: Callable[[], bool], timeout: float | None) -> None:
        """Read until there is enough; a lost connection is never taken for the end."""
        until = None if timeout is None else time.monotonic() + timeout
        waiting = select.poll()
        waiting.register(self._out, select.POLLIN)
        while not self._ended and not enough():
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            if not waiting.poll(left):
                raise self._silent(timeout)
            data = os.read(self._out, _CHUNK)
            self._buffer += data
            if not data:
                self._settle(_SETTLE)
                self._ended = True

    def _settle(self, timeout: float | None) -> None:
        """Look how the process has ended, if it has."""
        with suppress(TimeoutError):
            status = self._control.exit_status(timeout)
            if status is None and self._session.lost(_SETTLE):
                raise self._session.loss()
            self._status = faults.KILLED if status is None else status

    def _silent(self, timeout: float | None) -> FleetError:
        return FleetError(
            f"{self._session.where}: the command said nothing for {timeout or 0:g} s; look at what "
            "the machine does, then run this again"
        )

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data
