"""Carries connections from ports of this machine through a bastion, and never gives up.

The ports stay ours while the bastion is away: nobody else can take them, and who connects waits
for it for some seconds instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.errors import FleetError, PerennialError
from perennial.platforms.hosts.dial import Hop, Line, dial

if TYPE_CHECKING:
    from asyncssh import SSHReader, SSHWriter

LOOPBACK = "127.0.0.1"
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
#: How long who connects is kept waiting for the bastion; Dask's own patience is 30 s.
_PATIENCE = 20.0
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Forward:
    """One port of this machine that leads to one behind the bastion."""

    #: Port on this machine's loopback address.
    local: int
    #: Where it leads, as the bastion sees it.
    host: str
    #: The port there.
    port: int


class Forwarder:
    """Holds the ports and the connection to the bastion."""

    def __init__(
        self, bastion: Hop, forwards: Sequence[Forward], tell: Callable[[str | None], None]
    ) -> None:
        self._bastion = bastion
        self._forwards = forwards
        self._tell = tell
        self._line: Line | None = None
        self._connected = asyncio.Event()
        self._wanted = asyncio.Event()
        self._carried: set[asyncio.Task[None]] = set()
        self._complaints: dict[Forward, str] = {}

    async def run(self) -> None:
        """Forward until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        servers = [
            await asyncio.start_server(self._accept(each), LOOPBACK, each.local)
            for each in self._forwards
        ]
        keeping = asyncio.create_task(self._keep())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                fault = keeping.exception()
                raise FleetError(f"the tunnel ended by itself: {fault!r}") from fault
        finally:
            for server in servers:
                server.close()
            tasks = (keeping, stopping, *self._carried)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._line is not None:
                await self._line.close()

    async def _keep(self) -> None:
        """Connect, and connect again; sooner when somebody waits for it."""
        pause = _FIRST_PAUSE
        while True:
            began = math.inf
            try:
                self._line = await dial(self._bastion)
                began = time.monotonic()
                self._say(None)
                self._connected.set()
                await self._line.connection.wait_closed()
                fault = "the connection was lost"
            except (PerennialError, OSError) as error:
                fault = str(error) or type(error).__name__
            await self._let_go()
            self._say(fault)
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
                # Not in a tight circle when one after another wants it.
                await asyncio.sleep(_FIRST_PAUSE)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _let_go(self) -> None:
        """Close what is left of a connection."""
        self._connected.clear()
        line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(OSError):
                await line.close()

    def _say(self, fault: str | None) -> None:
        """Tell of a change; a full disk keeps nobody from connecting again."""
        try:
            self._tell(fault)
        except OSError as error:
            with contextlib.suppress(OSError):
                print(f"{fault or 'connected'}; not written down: {error}", flush=True)

    def _accept(self, forward: Forward) -> Callable[[asyncio.StreamReader, Any], Any]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._carried.add(task)
                task.add_done_callback(self._carried.discard)
            try:
                await self._carry(forward, reader, writer)
            finally:
                writer.close()

        return accept

    async def _carry(
        self, forward: Forward, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection; where there is no way, close it."""
        import asyncssh

        self._wanted.set()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._connected.wait()
                line = self._line
                if line is None:
                    return
                far_reader, far_writer = await line.connection.open_connection(
                    forward.host, forward.port, encoding=None
                )
        except (TimeoutError, OSError, asyncssh.Error) as error:
            self._complain(forward, str(error) or "no answer")
            return
        self._complaints.pop(forward, None)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except (OSError, asyncssh.Error):
            pass  # one end is gone: so is the other
        finally:
            far_writer.close()

    def _complain(self, forward: Forward, text: str) -> None:
        """Log why a place is not reached, once: a client asks again and again."""
        if self._connected.is_set() and self._complaints.get(forward) != text:
            print(f"{forward.host}:{forward.port} from the bastion: {text}", flush=True)
            self._complaints[forward] = text


async def _copy(
    reader: asyncio.StreamReader | SSHReader[bytes],
    writer: asyncio.StreamWriter | SSHWriter[bytes],
) -> None:
    """Copy until the end, and say that it is the end."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def prove(bastion: Hop, places: Sequence[tuple[str, int]]) -> list[str]:
    """Connect once, to find out whether the tunnel can work."""
    import asyncssh

    line = await dial(bastion)
    try:
        said = []
        for host, port in places:
            try:
                async with asyncio.timeout(_PATIENCE):
                    _, writer = await line.connection.open_connection(host, port, encoding=None)
                writer.close()
                said.append("")
            except TimeoutError:
                said.append("no answer")
            except asyncssh.ChannelOpenError as error:
                said.append(error.reason or "refused")
        return said
    finally:
        await line.close()


def main(bastion: Hop, forwards: Sequence[Forward], tell: Callable[[str | None], None]) -> int:
    """Forward until this process is ended."""

    async def run() -> None:
        await Forwarder(bastion, forwards, tell).run()

    try:
        asyncio.run(run())
    except OSError as error:
        return _failed(tell, f"a local port cannot be used: {error.strerror or error}", error)
    except FleetError as error:
        return _failed(tell, str(error), error)
    return 0


def _failed(tell: Callable[[str | None], None], fault: str, error: Exception) -> int:
    """Say why the process ends, wherever that can be said."""
    with contextlib.suppress(OSError):
        tell(fault)
    with contextlib.suppress(OSError):
        print(error, file=sys.stderr)
    return 1
