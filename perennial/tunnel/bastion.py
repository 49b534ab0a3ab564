"""A tunnel's way through a bastion, by the user's own ssh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from perennial.connect import Connection
from perennial.ssh import Hop, Session, parse_jump
from perennial.ssh.folder import folder
from perennial.ssh.masters import cancel_logins
from perennial.ssh.mux import RefusedError
from perennial.tunnel.forwarding import CONNECT_TIMEOUT, Endpoint, Forward

WEB_PORTS = {"http": 80, "https": 443}
#: What ssh logs of a place that the bastion cannot connect to.
_REFUSAL = re.compile(r"^channel \d+: open failed: (?:connect failed: )?(.+?)\s*$", re.MULTILINE)


class Bastion:
    """Connects through a machine that is reached over SSH."""

    #: What has to be right there.
    remedy = "whether that machine may reach it and may forward (AllowTcpForwarding)"

    def __init__(self, told: Mapping[str, str]) -> None:
        self._hop = hop(told["bastion"])
        self.name = self._hop.name

    @staticmethod
    def words(told: Mapping[str, str]) -> str:
        """Describe it in a message."""
        return f"tunnel through {told['bastion']}"

    def endpoints(self, connection: Connection) -> list[Endpoint]:
        """Name the hosts and ports that a user of the cluster goes to, the scheduler's first."""
        return endpoints_of(connection)

    async def connect(self, forwards: Sequence[Forward]) -> BastionLink:
        """Connect to the bastion; when it fails, nothing stays open."""
        return await asyncio.to_thread(_connect, self._hop, forwards)

    def check(self, places: Sequence[Endpoint]) -> list[str]:
        """Connect once, to find out whether it can work: empty for a place where it can."""
        with Session(self._hop, CONNECT_TIMEOUT) as session:
            return [_proved(session, host, port) for host, port in places]

    def cancel(self) -> None:
        """End logins that wait."""
        cancel_logins()


class BastionLink:
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
        os.truncate(log, 0)  # ssh appends to it, for weeks
        return found[-1] if found else ""

    async def close(self) -> None:
        """End it."""
        await asyncio.to_thread(self._session.__exit__, None, None, None)


def hop(bastion: str) -> Hop:
    """Read a bastion; those before the last comma are hops on the way to it."""
    *_, last = parse_jump(bastion)
    before, _, _ = bastion.rpartition(",")
    return replace(last, jump=before or None)


def endpoints_of(connection: Connection) -> list[Endpoint]:
    """Name the hosts and ports in a connection, the scheduler's first."""
    found = []
    for link in (connection.scheduler_address, connection.jupyter_url, connection.dashboard_link):
        parts = urlsplit(link or "")
        port = parts.port or WEB_PORTS.get(parts.scheme)
        if parts.hostname and port:
            found.append((parts.hostname, port))
    return list(dict.fromkeys(found))


def _connect(bastion: Hop, forwards: Sequence[Forward]) -> BastionLink:
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(Session(bastion))
        sockets = {each: folder() / f"to-{number}" for number, each in enumerate(forwards)}
        for forward, path in sockets.items():
            path.unlink(missing_ok=True)
            with contextlib.closing(session.control()) as control:
                control.forward(path, forward.host, forward.port)
        stack.pop_all()
        return BastionLink(session, sockets)


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
