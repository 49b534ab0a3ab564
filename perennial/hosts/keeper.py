"""Keep the members on this machine that the scaler asks for: ``python -m perennial.hosts.keeper``.

It listens on nothing: it asks the scheduler, with the certificate of a worker, what shall run
here. It starts and stops the members of its own groups, up to the number that the cluster file
gives this machine, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perennial.errors import PerennialError
from perennial.hosts.agent import manifest, systemd
from perennial.hosts.keeping import Keeper, State, Units
from perennial.hosts.programs import KEPT, Programs
from perennial.paths import ClusterPaths
from perennial.preloads.ready import notify

logger = logging.getLogger("perennial.keeper")

#: Seconds between two questions.
INTERVAL = 1.0
#: Seconds in which the scheduler must answer one.
ANSWER = 5.0
#: The keeper's file below its folder.
FILE = "wanted.json"

#: systemd's word for a unit's state → ours. The others mean that it is not there.
_STATES: dict[str, State] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "leaving",
}


class Tls(BaseModel):
    """Where the certificate is with which the keeper reaches the scheduler."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: str
    cert: str
    key: str


class Settings(BaseModel):
    """What a keeper is told: the JSON file that a deploy has written for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")
    machine: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    scheduler: str = Field(pattern=r"^(tcp|tls|ucx)://")
    tls: Tls | None
    state: Path
    groups: dict[str, int]


class SystemdUnits:
    """Instances of the groups' template units, under the machine's own systemd.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    groups : collection of str
        The groups; no unit of any other is ever named to systemd.
    """

    def __init__(self, cluster: str, groups: Collection[str]) -> None:
        self._prefixes = {group: f"dask-{cluster}-{group}@" for group in groups}

    def states(self) -> dict[str, dict[int, State]]:
        """Look what is there."""
        found: dict[str, dict[int, State]] = {group: {} for group in self._prefixes}
        known = systemd.states([f"{prefix}.service" for prefix in self._prefixes.values()])
        for group, prefix in self._prefixes.items():
            whole = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,5})\.service")
            for name, unit in known.items():
                match, state = whole.fullmatch(name), _STATES.get(unit["ActiveState"])
                if match and state:
                    found[group][int(match[1])] = state
        return found

    def start(self, group: str, numbers: Collection[int]) -> None:
        """Start members; does not wait."""
        systemd.start(self._names(group, numbers), (), wait=False, say=logger.info)

    def stop(self, group: str, numbers: Collection[int]) -> None:
        """Have members drain and stop; does not wait."""
        systemd.stop_later(self._names(group, numbers))

    def _names(self, group: str, numbers: Collection[int]) -> list[str]:
        return [f"{self._prefixes[group]}{number:d}.service" for number in numbers]


def read(path: Path) -> Settings:
    """Read a keeper's configuration.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    PerennialError
        It is not there, or does not say what it must.
    """
    try:
        return Settings.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise PerennialError(f"{path}: {error.strerror}; `perennial up` writes it") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "(file)"
        raise PerennialError(
            f"{path}: {where}: {first['msg'].lower()}; `perennial up` writes it anew"
        ) from None
    except ValueError as error:
        raise PerennialError(
            f"{path}: found no JSON ({error}); `perennial up` writes it anew"
        ) from None


def keeper(settings: Settings, units: Units, lock: Path) -> Keeper:
    """Make what keeps a machine's members.

    Parameters
    ----------
    settings : Settings
        What it was told.
    units : Units
        The service manager.
    lock : pathlib.Path
        File that a deploy holds.
    """
    return Keeper(settings.groups, settings.state / FILE, lock, units)


async def keep(settings: Settings, own: Keeper, interval: float = INTERVAL) -> None:
    """Ask the scheduler, and do what it says, for ever.

    Parameters
    ----------
    settings : Settings
        What the keeper was told.
    own : Keeper
        Does it.
    interval : float
        Seconds between two questions.
    """
    from distributed.core import rpc

    arguments = _security(settings.tls).get_connection_args("worker")
    scheduler = rpc(settings.scheduler, connection_args=arguments, timeout=ANSWER)
    asks: dict[str, Any] = {}
    silent, blind = False, ""
    while True:
        try:
            report = await asyncio.to_thread(own.step, asks)
        except PerennialError as error:  # the service manager itself does not answer
            if str(error) != blind:
                logger.warning("%s", error)
            blind = str(error)
            notify("WATCHDOG=1", f"STATUS={error}")
            await asyncio.sleep(interval)
            continue
        blind = ""
        notify("READY=1", "WATCHDOG=1", f"STATUS={_status(report, own.trouble)}")
        try:
            async with asyncio.timeout(ANSWER):
                asks = await scheduler.perennial_keep(
                    machine=settings.machine, groups=report, trouble=own.trouble
                )
            asks = asks or {}  # a scheduler without our preload answers nothing
            silent = False
        except (OSError, TimeoutError, ValueError) as error:
            if not silent:
                logger.warning("the scheduler at %s does not answer: %s", settings.scheduler, error)
            asks, silent = {}, True
        await asyncio.sleep(0.0 if asks and not own.trouble else interval)


def main(path: str, supervisord: str = "") -> int:
    """Run until SIGTERM.

    Parameters
    ----------
    path : str
        The configuration.
    supervisord : str
        Folder of the cluster's supervisord; empty where the machine's own systemd runs all.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        settings = read(Path(path))
        if supervisord:
            root, texts = Path(supervisord), Path(path).parent / KEPT
            units: Units = Programs(root, settings.machine, settings.groups, texts)
            own = keeper(settings, units, ClusterPaths(root).lock)
        else:
            units = SystemdUnits(settings.cluster, settings.groups)
            own = keeper(settings, units, manifest.lock(settings.cluster))
        asyncio.run(keep(settings, own))
    except PerennialError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _security(tls: Tls | None) -> Any:
    from distributed.security import Security

    if tls is None:
        return Security()
    return Security(
        tls_ca_file=tls.ca,
        tls_worker_cert=tls.cert,
        tls_worker_key=tls.key,
        require_encryption=True,
    )


def _status(report: dict[str, Any], trouble: str) -> str:
    parts = [f"{len(each['wanted'])} of {each['most']} {name}" for name, each in report.items()]
    return "; ".join([*parts, *([trouble] if trouble else [])])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
