"""SSH to one machine from code that is not asynchronous.

The connection lives in a thread with an event loop of its own, so that it answers and asks for
signs of life while nobody reads from it, and so that many of them stand side by side. What is
taken from the user's SSH configuration is said in `perennial.platforms.hosts.dial`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perennial.errors import FleetError
from perennial.platforms.hosts import libraries, ssh_faults
from perennial.platforms.hosts.dial import Line, TargetLike, dial
from perennial.platforms.hosts.ssh_faults import UnreachableError
from perennial.platforms.hosts.tcp import Meter

if TYPE_CHECKING:
    import asyncssh

__all__ = ["Channel", "Session", "UnreachableError"]

_T = TypeVar("_T")
#: What is kept of a process's standard error.
_TAIL = 16_384
_CHUNK = 65_536
#: What is given to the connection in one piece: a large write waits for the machine in between.
_PIECE = 1 << 20


class Session:
    """One SSH connection to a machine; a context manager."""

    def __init__(self, target: TargetLike, timeout: float = 20.0) -> None:
        self._target = target
        self._timeout = timeout
        self._meter = Meter()
        self._line: Line | None = None

    def __enter__(self) -> Self:
        libraries.load()
        self._loop = asyncio.new_event_loop()  # who is not entered leaves nothing open
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"ssh {self._target.name}", daemon=True
        )
        self._thread.start()
        try:
            self._line = self._run(dial(self._target, self._timeout, self._meter))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def sent(self) -> int:
        """Bytes sent over the wire, the handshake's among them; jump hosts' as well."""
        return self._meter.sent

    @property
    def received(self) -> int:
        """Bytes received over the wire, the handshake's among them."""
        return self._meter.received

    @property
    def where(self) -> str:
        """The machine, for messages."""
        return self.line.where

    @property
    def line(self) -> Line:
        """The open connection."""
        if self._line is None:
            raise RuntimeError("a Session is used in a with statement")
        return self._line

    @property
    def address(self) -> str:
        """The machine's end of the connection: its IP address as this side sees it.

        Empty behind jump hosts and a ``ProxyCommand``.
        """
        peer = self.line.connection.get_extra_info("peername")
        return str(peer[0]) if peer and not self.line.under else ""

    def start(self, command: str) -> Channel:
        """Start a process on the machine."""
        return Channel(self, self._run(self._open(command)))

    async def _open(self, command: str) -> asyncssh.SSHClientProcess[bytes]:
        import asyncssh

        try:
            return await self.line.connection.create_process(
                command, encoding=None, request_pty=False
            )
        except asyncssh.ChannelOpenError as error:
            if self.line.lost:
                raise self.line.loss() from None
            raise FleetError(
                f"{self.where}: sshd starts no process ({error.reason}); look at MaxSessions and "
                "ForceCommand there"
            ) from None
        except (asyncssh.Error, OSError):
            raise self.line.loss() from None

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for something that the connection's own thread does."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UnreachableError(f"{self._target.name}: the connection was closed") from None
        except BaseException:
            future.cancel()  # Ctrl-C here must not leave the work going on there
            raise

    def _end(self) -> None:
        """Close the connection and its thread, at any point of its life."""
        if self._loop.is_closed():
            return
        if self._line is not None:
            with contextlib.suppress(Exception):
                self._run(self._line.close())
        with contextlib.suppress(Exception):
            self._run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Channel:
    """A process on a machine: bytes in, bytes out."""

    def __init__(self, session: Session, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._session = session
        self._process = process
        self._buffer = bytearray()
        self._ended = False
        self._tail = bytearray()
        self._drain = session._run(_start(self._keep_stderr()))

    @property
    def stderr(self) -> str:
        """The end of what the process has written to standard error."""
        return self._tail.decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Send bytes to its standard input; returns when little of them waits here."""
        self._session._run(self._write(data))

    def read(self, size: int, timeout: float | None = None) -> bytes:
        """Read from its standard output: that many bytes, fewer only where it ends."""
        self._session._run(self._within(self._fill(lambda: len(self._buffer) >= size), timeout))
        return self._take(size)

    def readline(self, timeout: float | None = None) -> bytes:
        """Read a line of any length with its end; empty where the output ends."""
        self._session._run(self._within(self._fill(lambda: b"\n" in self._buffer), timeout))
        found = self._buffer.find(b"\n")
        return self._take(found + 1 if found >= 0 else len(self._buffer))

    def close_stdin(self) -> None:
        """Tell the process that nothing more comes."""
        self._session._run(self._close_stdin())

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; what it wrote meanwhile stays to be read."""
        return self._session._run(self._within(self._wait(), timeout))

    def fault(self, status: int) -> FleetError:
        """Return why the process failed: a password for sudo, a missing command, its last lines."""
        return ssh_faults.process_fault(self._session.where, status, self.stderr)

    async def _write(self, data: bytes) -> None:
        import asyncssh

        view = memoryview(data)
        try:
            for start in range(0, len(view), _PIECE):
                self._process.stdin.write(bytes(view[start : start + _PIECE]))
                await self._process.stdin.drain()
        except (OSError, asyncssh.Error):
            self._raise_if_lost()
            raise self.fault(await self._wait()) from None

    async def _close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.write_eof()

    async def _fill(self, enough: Any) -> None:
        """Read until there is enough; a lost connection is never taken for the end."""
        import asyncssh

        while not self._ended and not enough():
            try:
                data = await self._process.stdout.read(_CHUNK)
            except (OSError, asyncssh.Error):
                raise self._session.line.loss() from None
            self._buffer += data
            if not data:
                self._raise_if_lost()
                self._ended = True

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _wait(self) -> int:
        # Its output is read all the while: a process that cannot write would never end.
        await self._fill(lambda: False)
        await self._process.wait_closed()
        await asyncio.wait({self._drain})
        if self._process.exit_signal is not None:
            name = f"SIG{self._process.exit_signal[0]}"
            return 128 + int(signal.Signals.__members__.get(name, 0))
        if self._process.exit_status is None:
            raise self._session.line.loss()
        return self._process.exit_status

    async def _within(self, work: Coroutine[Any, Any, _T], timeout: float | None) -> _T:
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError:
            raise FleetError(
                f"{self._session.where}: the command said nothing for {timeout:g} s; look at what "
                "the machine does, then run this again"
            ) from None

    def _raise_if_lost(self) -> None:
        process = self._process
        if process.exit_status is None and process.exit_signal is None and self._session.line.lost:
            raise self._session.line.loss()

    async def _keep_stderr(self) -> None:
        with contextlib.suppress(Exception):
            while data := await self._process.stderr.read(_CHUNK):
                self._tail += data
                del self._tail[:-_TAIL]


async def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)


async def _cancel_all() -> None:
    """End every task of this loop but this one."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
