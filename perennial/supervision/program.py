"""What a supervisord runs: each program as text, with what must be known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perennial import render
from perennial.paths import ClusterPaths
from perennial.services import Service
from perennial.supervision import single_instance
from perennial.supervision.supervisor import started_as

#: The service that sizes groups.
SCALER = "scaler"

#: Program that watches the scheduler and rotates the logs; no service of the cluster.
HEALTH = "health"

LOG_BYTES = 10 * 2**20
LOG_BACKUPS = 3


@dataclass(frozen=True, slots=True)
class Program:
    """One program of supervisord's."""

    #: ``scheduler``, ``cpu-0``, ``jupyter``, ``scaler``, ``health``.
    name: str
    #: Its section of supervisord's configuration.
    text: str
    #: The worker group that it is a member of.
    group: str | None = None
    #: Names under which its workers register with the scheduler.
    registers: tuple[str, ...] = ()
    #: Fixed ports that it listens on.
    ports: tuple[int, ...] = ()
    #: Seconds that it may take to stop.
    stop_timeout: float = 10.0
    #: Paths and texts of the configuration that it reads.
    files: tuple[tuple[str, str], ...] = ()


def from_json(entry: Mapping[str, Any]) -> Program:
    """Read a program that JSON has made lists of."""
    return Program(
        name=entry["name"],
        text=entry["text"],
        group=entry["group"],
        registers=tuple(entry["registers"]),
        ports=tuple(entry["ports"]),
        stop_timeout=entry["stop_timeout"],
        files=tuple((path, text) for path, text in entry.get("files", ())),
    )


def held(service: Service, paths: ClusterPaths, holder: Sequence[str], fingerprint: str) -> Program:
    """Describe the program of a service that is run at most once, see `single_instance`."""
    lock, log = paths.run / f"{service.name}.lock", paths.logs / f"{service.name}.log"
    # Jupyter's folders are its user's, who may share them.
    own = service.access.writes if service.role != "jupyter" else ()
    folders = (
        *(word for folder in own for word in (single_instance.FOLDER, folder)),
        *(single_instance.DIRECTORY, service.command.directory),
    )
    command = replace(
        service.command,
        argv=(*holder, *folders, str(lock), str(log), *service.command.argv),
        environment=(*service.command.environment, ("PERENNIAL_FINGERPRINT", fingerprint)),
        # `single_instance` changes to its own; supervisord starts nothing in a folder that is gone.
        directory="/",
    )
    return Program(
        name=service.name,
        text=render.program(replace(service, command=command)),
        ports=service.access.ports,
        stop_timeout=service.lifecycle.stop_timeout,
    )


def health(paths: ClusterPaths, python: str, socket: str, watchdog: float) -> Program:
    """Describe the program that watches the scheduler and rotates the logs."""
    argv = (
        *(python, "-P", "-m", started_as("health")),
        *(socket, f"{watchdog:g}"),
        *(str(paths.run / "scheduler.lock"), str(paths.logs), str(LOG_BYTES), str(LOG_BACKUPS)),
    )
    return Program(HEALTH, render.event_listener(HEALTH, argv, str(paths.logs / "health.log")))
