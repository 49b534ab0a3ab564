"""What SSH runs over: a TCP connection or a ``ProxyCommand``, whose bytes are counted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.platforms.hosts import ssh_faults
from perennial.platforms.hosts.ssh_faults import UnreachableError

if TYPE_CHECKING:
    import asyncssh


@dataclass(slots=True)
class Meter:
    """Counts the bytes on the wire, the handshake's among them."""

    sent: int = 0
    received: int = 0


@dataclass(slots=True)
class Wire:
    """What a connection runs over."""

    #: Our end.
    sock: socket.socket
    #: The ``ProxyCommand`` at its other end.
    proxy: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> str:
        """IP address of the machine; empty behind a ``ProxyCommand``."""
        return "" if self.proxy else str(self.sock.getpeername()[0])

    async def end(self, with_socket: bool) -> None:
        """End the ``ProxyCommand``, with all that it started."""
        if with_socket:
            self.sock.close()
        if self.proxy is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.proxy.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.proxy.wait, 2.0)
                return


async def connect(options: asyncssh.SSHClientConnectionOptions, where: str, meter: Meter) -> Wire:
    """Start the ``ProxyCommand``, or connect to the first address that answers."""
    if options.proxy_command:
        # As it stands in the configuration: it is for a shell, and asyncssh has split it.
        return _start_proxy(str(options.config.get("ProxyCommand")), meter)
    loop = asyncio.get_running_loop()
    host, port = options.host, options.port
    try:
        found = await loop.getaddrinfo(host, port, family=options.family, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ssh_faults.unresolved(where, host, error) from None
    faults: list[OSError] = []
    for family, kind, protocol, _, place in found:
        sock = _MeteredSocket(family, kind, protocol)
        sock.meter = meter
        try:
            sock.setblocking(False)
            if options.local_addr:
                sock.bind(options.local_addr)
            # One address that swallows everything must not use up the time of the others.
            async with asyncio.timeout(6.0 if len(found) > 1 else None):
                await loop.sock_connect(sock, place)
        except OSError as error:  # a TimeoutError is one
            sock.close()
            faults.append(error)
        except BaseException:
            sock.close()
            raise
        else:
            return Wire(sock)
    raise UnreachableError(f"{where}: {ssh_faults.network_fault(faults, host, port)}")


def _start_proxy(command: str, meter: Meter) -> Wire:
    """Start a program that is the way to the machine."""
    ours, its = socket.socketpair()
    with its:
        shell = ["/bin/sh", "-c", f"exec {command}"]
        end = its.fileno()
        proxy = subprocess.Popen(shell, stdin=end, stdout=end, start_new_session=True)
    sock = _MeteredSocket(fileno=ours.detach())
    sock.meter = meter
    sock.setblocking(False)
    return Wire(sock, proxy)


class _MeteredSocket(socket.socket):
    """Counts what goes through; asyncio's transports use these two on every Unix."""

    meter: Meter

    def send(self, data: Any, *args: Any) -> int:
        sent = super().send(data, *args)
        self.meter.sent += sent
        return sent

    def sendmsg(self, *args: Any) -> int:
        sent = super().sendmsg(*args)
        self.meter.sent += sent
        return sent

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self.meter.received += len(data)
        return data
