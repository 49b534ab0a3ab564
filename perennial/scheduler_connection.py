"""Connections to a scheduler by Dask's protocol, kept open between questions.

What comes back is unpickled by Dask, so only a process that a client may take over uses them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from perennial.tls import Tls

#: Seconds that a connection may take to open.
OPEN_TIMEOUT = 10.0


def security(tls: Tls | None, role: str = "client") -> Any:
    """Make Dask's own security of the certificate files of a role."""
    from distributed.security import Security

    if tls is None:
        return Security()
    return Security(
        require_encryption=True,
        **{
            "tls_ca_file": tls.ca,
            f"tls_{role}_cert": tls.cert,
            f"tls_{role}_key": tls.key,
        },
    )


def opened(address: str, tls: Tls | None, timeout: float, role: str = "client") -> Any:
    """Make connections of Dask's; they open themselves."""
    from distributed.core import rpc

    arguments = security(tls, role).get_connection_args(role)
    return rpc(address, timeout=timeout, connection_args=arguments)


class SchedulerConnection:
    """Connections to the scheduler, opened when they are needed."""

    def __init__(self, address: str, tls: Tls | None, open_timeout: float = OPEN_TIMEOUT) -> None:
        self.address = address
        self.tls = tls
        #: How many questions have no answer yet.
        self.asking = 0
        self._open_timeout = open_timeout
        self._rpc: Any = None

    async def ask(self, operation: str, timeout: float, **arguments: Any) -> Any:
        """Ask the scheduler; again where a connection broke while nobody used it."""
        self.asking += 1
        try:
            return await self._asked(operation, timeout, arguments)
        finally:
            self.asking -= 1

    async def _asked(self, operation: str, timeout: float, arguments: Mapping[str, Any]) -> Any:
        for attempt in range(3):
            is_new = self._rpc is None
            used = self._connected()
            try:
                async with asyncio.timeout(timeout):
                    return await getattr(used, operation)(**arguments)
            except TimeoutError:
                raise
            except OSError:
                if used is self._rpc:
                    await self.close()  # the next connection reads the certificate anew
                if is_new or attempt == 2:
                    raise
        raise AssertionError  # not reached

    async def close(self) -> None:
        """Close the connections."""
        if self._rpc is not None:
            rpc, self._rpc = self._rpc, None
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await rpc.close_rpc()

    def _connected(self) -> Any:
        """Give the connections; they open themselves."""
        if self._rpc is None:
            self._rpc = opened(self.address, self.tls, self._open_timeout)
        return self._rpc


class SharedConnection:
    """A scheduler's connections for threads: all that ask the same scheduler share them."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self._connection = SchedulerConnection(address, tls)
        self._loop = asyncio.new_event_loop()
        # It ends with the process.
        name = f"connection-{address}"
        threading.Thread(target=self._loop.run_forever, name=name, daemon=True).start()

    def ask(self, operation: str, timeout: float, **arguments: Any) -> Any:
        """Ask, and wait for the answer; see `SchedulerConnection.ask`."""
        asked = self._connection.ask(operation, timeout, **arguments)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


_shared: dict[tuple[str, Tls | None], SharedConnection] = {}
_sharing = threading.Lock()


def shared(address: str, tls: Tls | None) -> SharedConnection:
    """Return the connections that this process has to a scheduler; makes them the first time."""
    with _sharing:
        if (address, tls) not in _shared:
            _shared[address, tls] = SharedConnection(address, tls)
        return _shared[address, tls]
