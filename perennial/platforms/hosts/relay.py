"""Ask the scheduler what shall run on this machine: ``python -m perennial.platforms.hosts.relay``.

It listens on nothing: it asks the scheduler, with the certificate of a worker, and hands the
answer on as JSON to whatever starts and stops members. Under systemd that is another process,
root's (`perennial.platforms.hosts.agent.keeper`), which believes none of it; under supervisord no
root is needed, and it is this process.

Dask unpickles what a scheduler answers, and a client of the cluster can choose that: this process
can be made to run anything. So it runs as the user of the workers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perennial.errors import PerennialError
from perennial.paths import ClusterPaths
from perennial.platforms.hosts.agent import keeper
from perennial.platforms.hosts.agent.reconciling import NOTHING, respond
from perennial.platforms.hosts.programs import FOLDER, Programs
from perennial.preloads.messages import KeeperReport
from perennial.preloads.systemd_notify import notify
from perennial.scheduler_connection import opened
from perennial.tls import Tls

logger = logging.getLogger("perennial.keeper")

#: Seconds between two questions.
INTERVAL = 1.0
#: Seconds in which the scheduler must answer one.
ANSWER = 5.0
#: Seconds in which the keeper must, which asks systemd; below the unit's own watchdog.
KEEPER = 100.0
#: Longest answer of the keeper's, in bytes.
LONGEST = 2**20

_WRITES = "`perennial up` or `pulumi up` writes it anew"

#: Takes what is asked, as JSON; returns the report for the scheduler: ``groups`` and ``trouble``.
Respond = Callable[[bytes], KeeperReport]


class Settings(BaseModel):
    """A relay's configuration: the JSON file that a deploy has written for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    scheduler: str = Field(pattern=r"^(tcp|tls|ucx)://")
    tls: Tls | None
    socket: Path


class KeeperConnection:
    """The connection to the keeper of this machine, made anew when it is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def respond(self, message: bytes) -> KeeperReport:
        """Ask the keeper."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._socket.settimeout(KEEPER)
                self._socket.connect(str(self._path))
            self._socket.sendall(message)
            said = self._socket.recv(LONGEST)
            if not said:
                raise ConnectionResetError("the connection ended")
        except OSError as error:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            raise PerennialError(
                f"{self._path}: the keeper of this machine does not answer: {error}; see whether"
                " it runs"
            ) from None
        found = json.loads(said)
        if "error" in found:
            raise PerennialError(found["error"])
        report: KeeperReport = found
        return report


def read(path: Path) -> Settings:
    """Read a relay's configuration."""
    try:
        return Settings.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise PerennialError(f"{path}: {error.strerror}; {_WRITES}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "(file)"
        raise PerennialError(f"{path}: {where}: {first['msg'].lower()}; {_WRITES}") from None
    except ValueError as error:
        raise PerennialError(f"{path}: not valid JSON ({error}); {_WRITES}") from None


async def relay(settings: Settings, to: Respond, interval: float = INTERVAL) -> None:
    """Ask the scheduler, and hand on what it says, for ever."""
    scheduler = opened(settings.scheduler, settings.tls, ANSWER, role="worker")
    message = NOTHING
    silent, blind = False, ""
    while True:
        try:
            report = await asyncio.to_thread(to, message)
        except PerennialError as error:  # refused, or the service manager does not answer
            if str(error) != blind:
                logger.warning("%s", error)
            message, blind = NOTHING, str(error)
            notify("WATCHDOG=1", f"STATUS={error}")
            await asyncio.sleep(interval)
            continue
        blind, trouble = "", report["trouble"]
        notify("READY=1", "WATCHDOG=1", f"STATUS={keeper.status(report)}")
        try:
            async with asyncio.timeout(ANSWER):
                asks = await scheduler.perennial_keep(machine=settings.machine, **report)
            # A scheduler without our preload answers nothing.
            message = json.dumps(asks or {}).encode()
            silent = False
        except (OSError, TimeoutError, ValueError, TypeError, RecursionError) as error:
            if not silent:
                logger.warning("the scheduler at %s does not answer: %s", settings.scheduler, error)
            message, silent = NOTHING, True
        await asyncio.sleep(0.0 if message != NOTHING and not trouble else interval)


def main(path: str, members: str = "", supervisord: str = "") -> int:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        settings = read(Path(path))
        to = (
            _here(settings, Path(members), Path(supervisord))
            if members
            else KeeperConnection(settings.socket).respond
        )
        asyncio.run(relay(settings, to))
    except PerennialError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _here(settings: Settings, file: Path, root: Path) -> Respond:
    """Keep the members under the supervisord that has started this process."""
    configured = keeper.read(file)
    units = Programs(root, settings.machine, configured.bounds.uses, file.parent / FOLDER)
    own = keeper.keeper(configured, units, ClusterPaths(root).lock)
    return lambda message: respond(own, message)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
