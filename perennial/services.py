"""From a cluster file to services: the one place that knows Dask's command line. Pure.

A `Service` is a platform-neutral value: one process that must be kept running. A worker
group is one service with `INSTANCE` in the place of the member's number, so that a group's
text does not change with its size; `Service.member` fills the number in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Stands for a member's number, until a platform or a unit format puts its own in place. A
#: letter of Unicode's private use area: nothing that a person writes contains it.
INSTANCE = "\ue000"


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
    address : str
        IP address or host name on which the scheduler is reached and workers listen.
    home : str
        Home folder of the user that runs the services.
    """

    python: str
    config: str
    tls: str
    secrets: str
    scratch: str
    address: str
    home: str


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
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = "/"


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
    """

    secrets: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


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
        The process tells systemd when it is ready and that it is alive (``sd_notify``).
    watchdog : float
        Seconds without a sign of life after which it is restarted; 0 for never.
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
        ``scheduler``, ``jupyter`` or ``<group>-<INSTANCE>``.
    role : str
        What it is.
    description : str
        One line for a person.
    command, access, limits, lifecycle
        See their classes.
    files : tuple of File
        Configuration that it reads.
    """

    name: str
    role: Literal["scheduler", "worker", "jupyter"]
    description: str
    command: Command
    access: Access
    limits: Limits
    lifecycle: Lifecycle
    files: tuple[File, ...] = field(default=())

    @property
    def group(self) -> str | None:
        """Name of the worker group, or None."""
        return self.name.removesuffix(f"-{INSTANCE}") if INSTANCE in self.name else None
