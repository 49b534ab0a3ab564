"""Forwards connections from ports of this machine to a cluster's, and reconnects by itself.

The ports stay ours while the way there is cut: nobody else can take them, and who connects waits
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
from typing import TYPE_CHECKING, Any, Protocol

from perennial.errors import FleetError, PerennialError

if TYPE_CHECKING:
    from perennial.connect import Connection

LOOPBACK = "127.0.0.1"
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
#: How long who connects is kept waiting for a way; Dask's own timeout is 30 s.
CONNECT_TIMEOUT = 20.0
_CHUNK = 65_536
#: Host and port.
Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Forward:
    """One port of this machine that leads to one of the cluster's."""

    #: Port on this machine's loopback address.
    local: int
    #: Where it leads, as the cluster names it.
    host: str
    #: The port there.
    port: int


class Link(Protocol):
    """An open way to the endpoints."""

    async def ended(self) -> None:
        """Wait until it is lost."""

    async def open(self, forward: Forward) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a place."""

    def refusal(self) -> str:
        """Return why a place was not reached of late, and forget it."""

    async def close(self) -> None:
        """End it."""


class Transport(Protocol):
    """Makes the way: through a bastion, or through what a platform has for it."""

    #: Of what is in between, for messages.
    name: str
    #: What to look at where the scheduler is not reached.
    remedy: str

    def endpoints(self, connection: Connection) -> list[Endpoint]:
        """Name the hosts and ports that it leads to, the scheduler's first."""

    async def connect(self, forwards: Sequence[Forward]) -> Link:
        """Make the way; when it fails, nothing stays open."""

    def check(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """Go the way once: empty for a place that is reached, else why it is not."""

    def cancel(self) -> None:
        """End what keeps `connect` waiting."""


class Forwarder:
    """Holds the ports and the way to the cluster."""

    def __init__(
        self, transport: Transport, forwards: Sequence[Forward], tell: Callable[[str | None], None]
    ) -> None:
        self._transport = transport
        self._forwards = forwards
        self._tell = tell
        self._link: Link | None = None
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
            self._transport.cancel()
            tasks = (keeping, stopping, *self._carried)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._link is not None:
                await self._link.close()

    async def _keep(self) -> None:
        """Connect, and connect again; sooner when somebody waits for it."""
        pause = _FIRST_PAUSE
        while True:
            began = math.inf
            try:
                self._link = await self._transport.connect(self._forwards)
                began = time.monotonic()
                self._say(None)
                self._connected.set()
                await self._link.ended()
                fault = "the connection was lost"
            except (PerennialError, OSError) as error:
                fault = str(error) or type(error).__name__
            await self._disconnect()
            self._say(fault)
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
                # No busy loop where several connections wait.
                await asyncio.sleep(_FIRST_PAUSE)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _disconnect(self) -> None:
        """Close what is left of a connection."""
        self._connected.clear()
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(OSError):
                await link.close()

    def _say(self, fault: str | None) -> None:
        """Write the state down; a full disk does not prevent reconnecting."""
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
        self._wanted.set()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._connected.wait()
                link = self._link
                if link is None:
                    return
                far_reader, far_writer = await link.open(forward)
        except (TimeoutError, OSError) as error:
            self._complain(forward, str(error) or "no answer")
            return
        try:
            _, received = await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            fault = link.refusal()
            if received:
                self._complaints.pop(forward, None)
            elif fault:
                self._complain(forward, fault)
        except OSError:
            pass  # one end has closed: close the other
        finally:
            far_writer.close()

    def _complain(self, forward: Forward, text: str) -> None:
        """Log why a place is not reached, once: a client asks again and again."""
        if self._connected.is_set() and self._complaints.get(forward) != text:
            print(f"{forward.host}:{forward.port}: {text}", flush=True)
            self._complaints[forward] = text


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Copy until the end, say that it is the end, and return how many bytes there were."""
    count = 0
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
        count += len(data)
    with contextlib.suppress(OSError):
        writer.write_eof()
    return count


def main(
    transport: Transport, forwards: Sequence[Forward], tell: Callable[[str | None], None]
) -> int:
    """Forward until this process is ended."""

    async def run() -> None:
        await Forwarder(transport, forwards, tell).run()

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
