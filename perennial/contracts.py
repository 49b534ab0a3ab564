"""What a platform does for the command line: two classes, and the values that they exchange.

A platform derives from `Deployer` and `Runtime` and writes what it can do. Nothing here prints,
asks or locks: that is the command line's, once for all platforms. The caller holds the cluster's
lock wherever something is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from perennial.errors import Fault, PerennialError
from perennial.state import command

if TYPE_CHECKING:
    from datetime import datetime

    from perennial.certificates import Pair
    from perennial.connect import Connection
    from perennial.doctor import Finding
    from perennial.pages import Counts
    from perennial.plan import Holder, Plan
    from perennial.spec import ClusterSpec, Document
    from perennial.state import Stack

Say = Callable[[str], None]
#: Called with a member's name and what it abandoned.
Lost = Callable[[str, str], None]


class Rendered(NamedTuple):
    """What `render` writes."""

    #: Text by path.
    files: Mapping[str, str]
    #: What to do with them.
    note: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """A program that a deployment needs and that is not installed here."""

    name: str
    #: What is wrong, and how it is installed.
    problem: str
    #: Whether `Deployer.install` can.
    installable: bool


class Observer(Protocol):
    """Callbacks of an `up`."""

    @property
    def asks(self) -> bool:
        """Whether a person decides on the plan, so that it has to be known in full."""

    @property
    def force(self) -> bool:
        """Whether what is refused at first is meant."""

    def say(self, text: str) -> None:
        """Report what happens now."""

    def planned(self, plan: Plan | None) -> None:
        """Show what will be done, before it is; None where that is not known. Raises to stop it."""

    def lost(self, member: str, what: str) -> None:
        """Report what a member abandoned when it was stopped."""

    def ready(self, connection: Connection) -> None:
        """Report that clients can connect; workers may still be starting."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What an `up` has made."""

    connection: Connection
    #: What was done, in words; empty for nothing.
    summary: str
    #: Whether anything was changed.
    changed: bool
    #: Members of all groups; None where the platform alone knows.
    workers: int | None = None
    #: File of a new token of Jupyter's.
    token: Path | None = None
    #: What could not be cleaned, one line each.
    uncleaned: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """What a `down` has left."""

    #: What stays, and where, one line each.
    notes: Sequence[str] = ()
    #: What could not be cleaned, one line each.
    uncleaned: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Overview:
    """A cluster in `list`."""

    up: bool
    scheduler: str
    #: None where nobody was asked.
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service in `status`."""

    service: str
    #: The machine; None where there is one alone.
    machine: str | None
    state: str
    #: Process id, 0 when it does not run.
    pid: int = 0
    #: Seconds.
    uptime: float = 0.0
    #: Times that it came back by itself.
    restarts: int = 0
    #: Resident bytes of its processes.
    memory: int = 0
    #: Processors in use, as a share of one.
    cpu: float = 0.0
    #: What is wrong with it.
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A cluster in `status`."""

    #: Process id of its supervisord; None where it has none of its own.
    supervisord: int | None
    #: Members by group.
    sizes: Mapping[str, int]
    services: Sequence[ServiceStatus]
    #: The scheduler's own numbers; None where it does not answer.
    scheduler: Counts | None


class LogLine(NamedTuple):
    """A line of a service's log."""

    service: str
    text: str


class Resized(NamedTuple):
    """The size of a group before and now."""

    before: int
    now: int


class WebPage(NamedTuple):
    """A page behind a login."""

    url: str
    #: File of its token.
    token: Path
    #: Private folder for the file that logs a browser in.
    folder: Path


class PlatformPart(Protocol):
    """What `Deployer` and `Runtime` share."""

    platform: str
    #: What this platform cannot do → the message; ``{name}`` and ``{platform}`` stand for the
    #: cluster's, ``{up}`` and ``{down}`` for the commands that deploy it and take it down.
    cannot: ClassVar[Mapping[str, str]] = {}

    def __init__(self, platform: str) -> None:
        self.platform = platform

    def require(self, verb: str, name: str) -> None:
        """Refuse what the platform cannot do, before anything is asked or locked."""
        if why := self.cannot.get(verb):
            commands = {word: command(word, name) for word in ("up", "down")}
            raise PerennialError(why.format(name=name, platform=self.platform, **commands))
        if getattr(type(self), verb).__module__ == __name__:  # only declared here, not implemented
            raise PerennialError(f"the platform {self.platform} has no {verb.replace('_', ' ')}")


class Deployer(PlatformPart, Protocol):
    """The life of a cluster. A platform writes at least `plan`, `up` and `down`."""

    def plan(self, spec: ClusterSpec, file: str, say: Say) -> Plan:
        """Return what `up` would change. Changes nothing."""

    def up(self, spec: ClusterSpec, file: str, watched: Observer) -> Deployed:
        """Create or change a cluster."""

    def down(self, name: str, purge: bool, say: Say) -> Removed:
        """Stop a cluster and remove its services; with ``purge`` its secrets and logs as well."""

    def losses(self, _name: str) -> str:
        """Return what `down` would end beyond recall; empty for nothing."""
        return ""

    def refresh(self, name: str, say: Say) -> Plan:
        """Return what is not as it was deployed."""

    def forget(self, name: str, machine: str, say: Say) -> None:
        """Remove a lost machine from the state of a cluster."""

    def machines(self, _name: str) -> Sequence[str]:
        """Return the machines that `forget` knows."""
        return ()

    def attach(self, spec: ClusterSpec, connection: Mapping[str, Any], stack: Stack) -> Connection:
        """Remember a cluster that a stack of the user's own has deployed."""

    def detach(self, name: str) -> None:
        """Forget such a cluster; what runs is not touched."""

    def render(self, spec: ClusterSpec, form: str, root: Path) -> Rendered:
        """Return the files of `render`, in one of the formats that the registry names."""

    def faults(self, _document: Document) -> tuple[list[Fault], list[Fault]]:
        """Return errors and warnings of a cluster file on this machine."""
        return [], []

    def log_in(self, name: str, spec: ClusterSpec | None = None) -> None:
        """Log in where a person may be asked: for a new spec, or as the cluster stands."""

    def check_room(self, spec: ClusterSpec, force: bool, say: Say) -> None:
        """Refuse more members than there is room for, unless they stand or are forced."""

    def lacking(self) -> Lacking | None:
        """Return which program has to be installed first."""
        return None

    def install(self, say: Say) -> None:
        """Install what is lacking."""


class Runtime(PlatformPart, Protocol):
    """A cluster that runs. A platform writes at least `overview` and `status`."""

    name: str

    def __init__(self, platform: str, name: str) -> None:
        super().__init__(platform)
        self.name = name

    def overview(self) -> Overview:
        """Describe the cluster for `list`, quickly."""

    def status(self) -> Status:
        """Look at every service, and ask the scheduler for its numbers."""

    def counts(self) -> Counts | None:
        """Return the scheduler's numbers; None where it does not answer."""
        return self.status().scheduler

    def scaler(self) -> Any | None:
        """Return what keeps the scaler's reports where the scheduler does not; None where it does.

        It answers the scheduler's own questions for that, see `perennial.scaler.scaler_client`.
        """
        return None

    def holders(self) -> Sequence[Holder]:
        """Return the members that hold actors."""
        return ()

    def awaited(self) -> Collection[str]:
        """Return the workers that must register after an `up` which has not waited for them."""
        return ()

    def registered(self) -> Collection[str]:
        """Return the workers that the scheduler knows."""
        return ()

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Yield lines of logs; with ``follow`` for ever."""

    def restart(self, service: str, say: Say, lost: Lost) -> int:
        """Restart a service or the members of a group; return how many."""

    def scale(
        self, wanted: Mapping[str, int], force: bool, say: Say, lost: Lost
    ) -> Mapping[str, Resized]:
        """Resize groups without a scaler."""

    def checks(self, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""

    def rotate(self, say: Say) -> datetime:
        """Renew certificates; return when the first one expires."""

    def rotation(self) -> Plan:
        """Return what restarts under a new certificate authority."""

    def rotate_authority(self, say: Say) -> None:
        """Replace the certificate authority."""

    def issue(self, person: str) -> Pair:
        """Issue a client certificate to a person."""

    def revoke(self, person: str) -> int:
        """Revoke the certificates of a person; return how many."""

    def jupyter(self) -> WebPage | None:
        """Return JupyterLab; None where the cluster has none."""

    def dashboard(self) -> WebPage:
        """Return Dask's dashboard alone."""

    def enable(self, say: Say) -> str:
        """Start the cluster at boot; return the unit's name."""

    def disable(self) -> str:
        """Undo `enable`; return the unit's name."""

    def supervisor(self) -> int:
        """Return the process here that keeps the services running; 0 where it has ended."""
