"""The platform-neutral values: what a process that must be kept running consists of. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

# Placeholders: each is a letter of Unicode's private use area, which nothing that a person writes
# contains. One that is still there when text is rendered is an error.
#: The index of a member, until a platform or a unit format puts its own in place.
INSTANCE = "\ue000"
#: The address on which a machine's services listen, until it is known there.
ADDRESS = "\ue001"
#: The name of a machine, in what is the same on all machines.
MACHINE = "\ue002"
#: The machine's own Python, in which root may run what is root's.
PYTHON = "\ue003"
#: The folder of a systemd unit's credentials.
CREDENTIALS = "\ue004"
#: The folder on a machine of all that belongs to the clusters of a user without root.
FOLDER = "\ue005"
PLACEHOLDERS = {
    INSTANCE: "the index of a member",
    ADDRESS: "the address of a machine",
    MACHINE: "the name of a machine",
    PYTHON: "the Python of a machine",
    CREDENTIALS: "the credentials folder",
    FOLDER: "the user's folder on a machine",
}

#: That Python, where nobody has asked the machine.
USUAL_PYTHON = "/usr/bin/python3"

#: Where JupyterLab listens when nobody says otherwise: for this machine alone, without TLS.
LOOPBACK = "127.0.0.1"

#: Seconds in which new workers must have registered, or Jupyter must answer.
START_TIMEOUT = 180.0

#: What is made is its user's alone.
PRIVATE = "077"

Role = Literal["scheduler", "worker", "jupyter", "scaler", "relay", "keeper"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where things are on the machine that runs the services. A platform decides them.

    Parameters
    ----------
    python : str
        Interpreter that runs the services.
    config : str
        Folder of rendered configuration files.
    tls : str
        Folder of the certificates and keys.
    secrets : str
        Folder of other secrets (Jupyter's token).
    scratch : str
        Folder for what workers spill to disk.
    work : str
        Working folder of the scheduler and the workers, on nobody's ``sys.path``; `scratch` when
        empty.
    address : str
        IP address or host name on which the scheduler and the workers listen; `ADDRESS` where
        only the machine itself knows it.
    home : str
        Home folder of the user that runs the services.
    machine : str
        What stands between a group's name and a member's number; empty where there is one
        machine.
    scheduler : str
        IP address or host name by which others reach the scheduler; `address` when empty.
    jupyter_address : str
        Where JupyterLab listens; with TLS anywhere but on loopback.
    dashboard : bool
        Whether the scheduler's dashboard is on JupyterLab's machine.
    scaler : str
        Folder of what the scaler remembers.
    keeper : str
        Folder of what a machine's keeper remembers; empty where the platform has none.
    socket : str
        Unix socket of a machine's keeper.
    pages : str
        Folder of the unix socket on which the scheduler serves its pages.
    shared : bool
        Whether JupyterLab has a user of its own, who reaches that socket as one of a group.
    metrics : int
        Port of the metrics, for programs that send the token; 0 for none.
    start : str
        Script that runs a module, in the place of ``-P -m``.
    """

    python: str
    config: str
    tls: str
    secrets: str
    scratch: str
    address: str
    home: str
    machine: str = ""
    scheduler: str = ""
    jupyter_address: str = LOOPBACK
    dashboard: bool = True
    scaler: str = ""
    keeper: str = ""
    socket: str = ""
    work: str = ""
    pages: str = ""
    shared: bool = False
    metrics: int = 0
    start: str = ""

    def running(self, module: str) -> tuple[str, ...]:
        """Words that run a module.

        Parameters
        ----------
        module : str
            Its name.
        """
        # Without the working folder on sys.path (-P): tasks write files there.
        return (self.python, *((self.start,) if self.start else ("-P", "-m")), module)


@dataclass(frozen=True, slots=True)
class File:
    """A configuration file that a service reads; holds no secret."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """What is run.

    Parameters
    ----------
    argv : tuple of str
        Program and arguments; never a secret.
    environment : tuple of (str, str)
        Variables beside those of the service manager; never a secret.
    directory : str
        Working folder.
    umask : str
        Three octal digits: what others may not do with the files that it makes.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = "/"
    umask: str = PRIVATE


@dataclass(frozen=True, slots=True)
class Access:
    """What a service touches outside its process.

    Parameters
    ----------
    secrets : tuple of str
        Secret files that it reads.
    writes : tuple of str
        Folders that it writes to.
    ports : tuple of int
        Fixed TCP ports that it listens on.
    peers : bool
        Whether it reaches sockets of services that have another user.
    hidden : tuple of str
        Folders that it must not see, where the service manager can hide them.
    """

    secrets: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    peers: bool = False
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service may use.

    Parameters
    ----------
    memory : int
        Bytes, where the service manager can limit memory. For a worker above the sum of its
        processes' ``--memory-limit``: Dask cannot see this limit.
    open_files : int
        Open files.
    """

    memory: int
    open_files: int = 65536


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How a service starts, lives and stops.

    Parameters
    ----------
    stop_timeout : float
        Seconds from SIGTERM to SIGKILL; above the drain deadline.
    notifies : bool
        The process notifies systemd when it is ready and that it is alive (``sd_notify``).
    watchdog : float
        Seconds without a keep-alive (``WATCHDOG=1``) after which it is restarted; 0 for never.
    health : str or None
        URL on loopback that answers 200 while the process is well.
    """

    stop_timeout: float
    notifies: bool = False
    watchdog: float = 0.0
    health: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One process that must be kept running; for a worker group, one of its members.

    Parameters
    ----------
    name : str
        ``scheduler``, ``jupyter``, ``scaler``, ``relay``, ``keeper``, ``<group>-<INSTANCE>`` or
        ``<group>-<machine>-<INSTANCE>``.
    role : str
        What it is.
    description : str
        One line for a person.
    command, access, limits, lifecycle
        See their classes.
    files : tuple of File
        Configuration that it reads.
    group : str or None
        Name of the worker group.
    """

    name: str
    role: Role
    description: str
    command: Command
    access: Access
    limits: Limits
    lifecycle: Lifecycle
    files: tuple[File, ...] = field(default=())
    group: str | None = None

    @property
    def is_group(self) -> bool:
        """Whether this is all members of a group at once: `INSTANCE` has no number yet."""
        return INSTANCE in self.name

    def member(self, instance: str) -> Service:
        """Put a member's number (or a unit format's word for it) in the place of `INSTANCE`.

        Parameters
        ----------
        instance : str
            ``0``, ``1``, …; or ``%i`` in a systemd template unit.
        """
        return filled(self, INSTANCE, instance)

    def at(self, address: str, python: str = USUAL_PYTHON, folder: str = FOLDER) -> Service:
        """Put the address of a machine in the place of `ADDRESS`, in its files as well.

        Parameters
        ----------
        address : str
            An IP address.
        python : str
            The machine's own interpreter, in the place of `PYTHON`.
        folder : str
            A folder there, in the place of `FOLDER`.
        """

        def here(text: str) -> str:
            return text.replace(ADDRESS, address).replace(FOLDER, folder)

        moved = filled(filled(filled(self, ADDRESS, address), PYTHON, python), FOLDER, folder)
        secrets = tuple(map(here, self.access.secrets))
        return replace(
            moved,
            access=replace(moved.access, secrets=secrets),
            files=tuple(File(here(file.path), here(file.text)) for file in self.files),
        )


def fingerprint(service: Service) -> str:
    """Return 16 letters of a digest of a service.

    A change of the fingerprint is what restarts a process. The description is for people, and
    how many members a group has is no part of a service.

    Parameters
    ----------
    service : Service
        A service; of a worker group, one member.
    """
    data = to_json(service)
    del data["description"]
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(service: Service) -> dict[str, object]:
    """Write a service as values that JSON can hold."""
    data: dict[str, object] = _adapter().dump_python(service, mode="json")
    return data


def from_json(data: Mapping[str, Any]) -> Service:
    """Read what `to_json` wrote.

    Parameters
    ----------
    data : mapping
        The service's values. Numbers may have become floats on their way.
    """
    command, access, limits = data["command"], data["access"], data["limits"]
    lifecycle = data["lifecycle"]
    return Service(
        name=data["name"],
        role=data["role"],
        description=data["description"],
        command=Command(
            tuple(command["argv"]),
            tuple((name, value) for name, value in command["environment"]),
            command["directory"],
            command.get("umask", PRIVATE),  # an earlier version has written none
        ),
        access=Access(
            tuple(access["secrets"]),
            tuple(access["writes"]),
            tuple(map(int, access["ports"])),
            access.get("peers", False),  # an earlier version wrote none
            tuple(access.get("hidden", ())),
        ),
        limits=Limits(int(limits["memory"]), int(limits["open_files"])),
        lifecycle=Lifecycle(
            float(lifecycle["stop_timeout"]),
            lifecycle["notifies"],
            float(lifecycle["watchdog"]),
            lifecycle["health"],
        ),
        files=tuple(File(file["path"], file["text"]) for file in data["files"]),
        group=data["group"],
    )


def filled(service: Service, mark: str, text: str) -> Service:
    """Put a text in the place of a mark, everywhere but in the files that a service reads.

    Parameters
    ----------
    service : Service
        A service.
    mark, text : str
        A letter, and what it stands for.
    """

    def fill(value: str) -> str:
        return value.replace(mark, text)

    command, access = service.command, service.access
    return replace(
        service,
        name=fill(service.name),
        description=fill(service.description),
        command=replace(
            command,
            argv=tuple(map(fill, command.argv)),
            environment=tuple((key, fill(value)) for key, value in command.environment),
            directory=fill(command.directory),
        ),
        access=replace(access, writes=tuple(map(fill, access.writes))),
    )


@cache
def _adapter() -> TypeAdapter[Service]:
    """Return what writes a service, a tenth of what `dataclasses.asdict` takes."""
    return TypeAdapter(Service)
