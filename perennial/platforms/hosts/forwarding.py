"""Carries connections from ports of this machine through a bastion, and never gives up.

The ports stay ours while the bastion is away: nobody else can take them, and who connects waits
for it for some seconds instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.errors import FleetError, PerennialError
from perennial.ssh import Hop, Session
from perennial.ssh.folder import folder
from perennial.ssh.masters import cancel_logins
from perennial.ssh.mux import RefusedError

LOOPBACK = "127.0.0.1"
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
#: How long who connects is kept waiting for the bastion; Dask's own patience is 30 s.
_PATIENCE = 20.0
_CHUNK = 65_536
#: What ssh logs of a place that the bastion cannot connect to.
_REFUSAL = re.compile(r"^channel \d+: open failed: (?:connect failed: )?(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Forward:
    """One port of this machine that leads to one behind the bastion."""

    #: Port on this machine's loopback address.
    local: int
    #: Where it leads, as the bastion sees it.
    host: str
    #: The port there.
    port: int


class Line:
    """The connection to the bastion, with a unix socket for each place behind it."""

    def __init__(self, session: Session, sockets: dict[Forward, Path]) -> None:
        self._session = session
        self._sockets = sockets

    async def ended(self) -> None:
        """Wait until the connection is lost."""
        loop, handle = asyncio.get_running_loop(), self._session.master.handle
        lost = asyncio.Event()
        loop.add_reader(handle, lost.set)
        try:
            await lost.wait()
        finally:
            loop.remove_reader(handle)

    async def open(self, forward: Forward) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a place behind the bastion."""
        return await asyncio.open_unix_connection(self._sockets[forward])

    def refusal(self) -> str:
        """Return why the bastion has opened no connection of late, and forget it."""
        log = self._session.master.log
        found = _REFUSAL.findall(log.read_text(errors="replace"))
        os.truncate(log, 0)  # ssh goes on at its end, for weeks
        return found[-1] if found else ""

    async def close(self) -> None:
        """End it."""
        await asyncio.to_thread(self._session.__exit__, None, None, None)


async def dial(bastion: Hop, forwards: Sequence[Forward]) -> Line:
    """Connect to the bastion; when it fails, nothing stays open."""
    return await asyncio.to_thread(_dial, bastion, forwards)


def _dial(bastion: Hop, forwards: Sequence[Forward]) -> Line:
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(Session(bastion))
        sockets = {each: folder() / f"to-{number}" for number, each in enumerate(forwards)}
        for forward, path in sockets.items():
            path.unlink(missing_ok=True)
            with contextlib.closing(session.control()) as control:
                control.forward(path, forward.host, forward.port)
        stack.pop_all()
        return Line(session, sockets)


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
            cancel_logins()
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
                self._line = await dial(self._bastion, self._forwards)
                began = time.monotonic()
                self._say(None)
                self._connected.set()
                await self._line.ended()
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
        self._wanted.set()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._connected.wait()
                line = self._line
                if line is None:
                    return
                far_reader, far_writer = await line.open(forward)
        except (TimeoutError, OSError) as error:
            self._complain(forward, str(error) or "no answer")
            return
        try:
            _, received = await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            fault = line.refusal()
            if received:
                self._complaints.pop(forward, None)
            elif fault:
                self._complain(forward, fault)
        except OSError:
            pass  # one end is gone: so is the other
        finally:
            far_writer.close()

    def _complain(self, forward: Forward, text: str) -> None:
        """Log why a place is not reached, once: a client asks again and again."""
        if self._connected.is_set() and self._complaints.get(forward) != text:
            print(f"{forward.host}:{forward.port} from the bastion: {text}", flush=True)
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


def prove(bastion: Hop, places: Sequence[tuple[str, int]]) -> list[str]:
    """Connect once, to find out whether the tunnel can work: empty for a place where it can."""
    with Session(bastion, _PATIENCE) as session:
        return [_proved(session, host, port) for host, port in places]


def _proved(session: Session, host: str, port: int) -> str:
    with contextlib.closing(session.control()) as control, open(os.devnull, "r+b") as nothing:
        try:
            control.connect(host, port, [nothing.fileno()] * 2)
        except TimeoutError:
            return "no answer"
        except RefusedError as error:
            refusals = _REFUSAL.findall(session.master.log.read_text(errors="replace"))
            return refusals[-1] if refusals else str(error)
    return ""


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
