"""From a cluster file to the programs of its supervisord. Pure but for `sys.executable`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from perennial import local
from perennial.fleet import Handle
from perennial.pages import socket_of
from perennial.paths import ClusterPaths
from perennial.services import Service, Site, services, worker_names
from perennial.spec import ClusterSpec
from perennial.supervision.program import Program, health, held

#: What starts each service, see there.
_HOLD = Path(str(local.__file__)).with_name("hold.py")


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
    """Return the path of this Python, the same however it was started: it stands in what runs.

    `perennial` and `pulumi` start the same interpreter under different names, and neither
    shall find that what the other one started is to be replaced.
    """
    plain = Path(sys.executable).with_name("python")
    same = plain.exists() and plain.samefile(sys.executable)
    chosen = plain if same else Path(sys.executable)
    # The environment's folder by its real name; what `bin/python` points to is no environment.
    return str(Path(os.path.realpath(chosen.parent.parent), chosen.parent.name, chosen.name))


class LocalHandle(Handle):
    """How a scaler reaches a group on this machine."""

    root: str
    """Folder of the cluster."""
    group: str
    """Its name."""
    python: str
    """Interpreter of its members."""
    fixed: bool = False
    """Whether nobody resizes it."""


def fleets(spec: ClusterSpec, paths: ClusterPaths, python: str = "") -> dict[str, LocalHandle]:
    """Say how each group's fleet is reached."""
    root, python = str(paths.root), python or interpreter()
    return {
        name: LocalHandle(root=root, group=name, python=python, fixed=name not in spec.scaled)
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
    program = held(service, paths, (python, "-I", "-S", str(_HOLD)), fingerprint)
    return replace(program, files=files)
