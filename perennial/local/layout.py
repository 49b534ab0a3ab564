"""From a cluster file to the programs of its supervisord. Pure but for `sys.executable`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perennial import render
from perennial.local import hold
from perennial.pages import socket_of
from perennial.paths import ClusterPaths
from perennial.services import Service, Site, services, worker_names
from perennial.spec import ClusterSpec

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


def site(spec: ClusterSpec, paths: ClusterPaths, python: str = "") -> Site:
    """Say where things are on this machine."""
    temporary = spec.options.temporary_directory
    return Site(
        python=spec.environment.python or python or interpreter(),
        config=str(paths.config),
        tls=str(paths.tls),
        secrets=str(paths.secrets),
        scratch=f"{temporary}/perennial-{spec.name}" if temporary else str(paths.scratch),
        address=spec.options.address,
        home=os.path.realpath(Path.home()),
        scaler=str(paths.scaler),
        work=str(paths.work),
        pages=str(paths.pages),
    )


def interpreter() -> str:
    """Name this Python as every way to start it does: it stands in what runs.

    `perennial` and `pulumi` start the same interpreter under different names, and neither
    shall find that what the other one started is to be replaced.
    """
    plain = Path(sys.executable).with_name("python")
    same = plain.exists() and plain.samefile(sys.executable)
    chosen = plain if same else Path(sys.executable)
    # The environment's folder by its real name; what `bin/python` points to is no environment.
    return str(Path(os.path.realpath(chosen.parent.parent), chosen.parent.name, chosen.name))


def fleets(spec: ClusterSpec, paths: ClusterPaths, python: str = "") -> dict[str, dict[str, Any]]:
    """Say how each group's fleet is reached: what makes a `perennial.local.fleet.LocalFleet`."""
    python = python or interpreter()
    return {
        name: {
            **{"root": str(paths.root), "group": name, "python": python},
            **({} if name in spec.scaled else {"fixed": True}),
        }
        for name in spec.workers
    }


def programs(
    spec: ClusterSpec,
    paths: ClusterPaths,
    members: Mapping[str, Collection[int]],
    python: str = "",
) -> dict[str, Program]:
    """List the programs of a cluster, in the order in which they start."""
    python = python or interpreter()
    scheduler = spec.scheduler
    place = site(spec, paths, python)
    found = [health(paths, python, socket_of(place.pages), scheduler.watchdog)]
    parts = services(spec, place, fleets(spec, paths, python))
    for service in parts:
        if service.group is None:
            found.append(_program(service, paths, python))
        else:
            group = spec.workers[service.group]
            for index in sorted(members.get(service.group, ())):
                member = service.member(str(index))
                found.append(
                    replace(
                        _program(member, paths, python),
                        group=service.group,
                        registers=worker_names(group, member.name),
                    )
                )
    return {program.name: program for program in found}


def _program(service: Service, paths: ClusterPaths, python: str) -> Program:
    files = tuple((file.path, file.text) for file in service.files)
    # What a service reads at its start is part of its text: a changed file replaces it.
    fingerprint = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    program = held(service, paths, (python, "-I", "-S", hold.__file__), fingerprint)
    return replace(program, files=files)


def held(service: Service, paths: ClusterPaths, holder: Sequence[str], fingerprint: str) -> Program:
    """Describe the program of a service that is run at most once, see `perennial.local.hold`."""
    lock, log = paths.run / f"{service.name}.lock", paths.logs / f"{service.name}.log"
    # Jupyter's folders are its user's, who may share them.
    own = service.access.writes if service.role != "jupyter" else ()
    folders = (
        *(word for folder in own for word in (hold.FOLDER, folder)),
        *(hold.DIRECTORY, service.command.directory),
    )
    command = replace(
        service.command,
        argv=(*holder, *folders, str(lock), str(log), *service.command.argv),
        environment=(*service.command.environment, ("PERENNIAL_FINGERPRINT", fingerprint)),
        # `hold` makes its own at each start; supervisord runs nothing in a folder that is gone.
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
        *(python, "-P", "-m", "perennial.local.health"),
        *(socket, f"{watchdog:g}"),
        *(str(paths.run / "scheduler.lock"), str(paths.logs), str(LOG_BYTES), str(LOG_BACKUPS)),
    )
    return Program(HEALTH, render.event_listener(HEALTH, argv, str(paths.logs / "health.log")))
