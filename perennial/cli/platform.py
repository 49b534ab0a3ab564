"""What the command line asks of a platform: the whole contract, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from perennial.errors import Fault, PerennialError
from perennial.registry import PLATFORMS

if TYPE_CHECKING:
    from perennial.certificates import Pair
    from perennial.doctor import Finding
    from perennial.spec import ClusterSpec, Document
    from perennial.templating import Format


@dataclass(frozen=True, slots=True)
class Wishes:
    """How `up` shall go about it."""

    #: Do not ask.
    yes: bool = False
    #: Make a plain Client() reach the cluster.
    connect: bool = True
    #: Warnings are errors.
    strict: bool = False
    #: Download Pulumi's command line where it is missing.
    install: bool = False
    #: Start more than the machines hold.
    force: bool = False


class Deployer(Protocol):
    """The life of a cluster."""

    def faults(self, document: Document) -> tuple[list[Fault], list[Fault]]:
        """Return errors and warnings of a cluster file on this machine."""

    def render(self, spec: ClusterSpec, form: Format, root: Path) -> tuple[dict[str, str], str]:
        """Return the files of `render`, by path, and what to do with them."""

    def plan(self, document: Document, file: Path, strict: bool) -> None:
        """Show what `up` would change."""

    def up(self, document: Document, file: Path, wishes: Wishes) -> None:
        """Create or update a cluster."""

    def up_and_stay(self, document: Document, file: Path, wishes: Wishes) -> None:
        """Create or update a cluster; on SIGTERM or Ctrl-C, stop it."""

    def refresh(self, name: str) -> None:
        """Show what is not as it was deployed."""

    def down(self, name: str, force: bool, purge: bool) -> None:
        """Stop a cluster and remove its services."""

    def forget(self, name: str, machine: str, force: bool) -> None:
        """Remove a lost machine from the state of a cluster."""


class Runtime(Protocol):
    """A cluster that runs."""

    def row(self, name: str) -> dict[str, Any]:
        """Describe a cluster for `list`."""

    def report(self, name: str) -> dict[str, Any]:
        """Describe its services and the scheduler's numbers for `status`."""

    def logs(
        self, name: str, service: str | None, lines: int, follow: bool
    ) -> Iterator[tuple[str, str]]:
        """Yield lines of logs, each with the service's name."""

    def restart(self, name: str, service: str, force: bool) -> int:
        """Restart a service or the members of a group; return how many."""

    def scale(
        self, name: str, wanted: Mapping[str, int], force: bool
    ) -> dict[str, tuple[int, int]]:
        """Resize groups without a scaler; return the sizes before and now."""

    def examine(self, name: str, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""

    def rotate(self, name: str) -> str:
        """Renew certificates; return what to say."""

    def rotate_authority(self, name: str, force: bool) -> str:
        """Replace the certificate authority; return what to say."""

    def issue(self, name: str, person: str) -> Pair:
        """Issue a client certificate to a person."""

    def revoke(self, name: str, person: str) -> int:
        """Revoke the certificates of a person; return how many."""

    def jupyter(self, name: str) -> tuple[str, Path, Path] | None:
        """Return JupyterLab's address, its token's file, and a private folder."""

    def dashboard(self, name: str) -> tuple[str, Path, Path]:
        """Return the dashboard's address, its token's file, and a private folder."""

    def enable(self, name: str) -> str:
        """Start the cluster at boot; return the unit's name."""

    def disable(self, name: str) -> str:
        """Undo `enable`; return the unit's name."""


def deployer(platform: str) -> Deployer:
    """Return the functions that deploy on a platform."""
    return cast(Deployer, _Functions(platform, PLATFORMS[platform].deployer))


def runtime(platform: str) -> Runtime:
    """Return the functions that ask and change a running cluster of a platform."""
    return cast(Runtime, _Functions(platform, PLATFORMS[platform].runtime))


class _Functions:
    """The functions of a module; one that it lacks is what the platform cannot do."""

    def __init__(self, platform: str, module: str) -> None:
        self._platform = platform
        self._module = module

    def __getattr__(self, name: str) -> Any:
        try:
            module = import_module(self._module)
        except ModuleNotFoundError as error:
            extra = PLATFORMS[self._platform].extra
            if not extra or (error.name or "").startswith("perennial"):
                raise
            raise PerennialError(
                f"{error.name} is not installed here; `pip install 'dask-perennial[{extra}]'`"
                " brings it"
            ) from None
        function = getattr(module, name, None)
        if function is None:
            raise PerennialError(f"the platform {self._platform} has no {name.replace('_', ' ')}")
        return function
