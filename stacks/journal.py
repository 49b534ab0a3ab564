"""The machines that a deployment may have changed, whatever became of it.

Pulumi forgets a resource whose making failed or was killed. The machine does not: what was
half made there is still there. So each machine is written down before anything is done to it,
and struck out when it is clean again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict

from perennial.errors import PerennialError
from perennial.files import read_json, write_json
from perennial.platforms.hosts.environment import EnvironmentSpec
from perennial.platforms.hosts.ownership import Owner
from perennial.spec import ClusterSpec
from perennial.state import UP


class Entry(TypedDict):
    """What it takes to make a machine clean again; the names are those of the first version."""

    #: Its services, see `perennial.platforms.hosts.machine_services.to_json`.
    share: Mapping[str, Any]
    #: Its Python environment.
    wish: EnvironmentSpec


#: By machine.
Entries = dict[str, Entry]


class Journal:
    """The machines that a cluster has, had, or was about to have."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "machines.json"

    def entries(self) -> Entries:
        """Everything that is written down."""
        found: Entries = read_json(self._file, {})
        return found

    def write(self, wanted: Mapping[str, Entry]) -> None:
        """Write machines down, beside those that stand there already."""
        now = {**self.entries(), **wanted}
        if now != self.entries():
            write_json(self._file, now)

    def strike(self, machines: Collection[str]) -> None:
        """Strike machines out."""
        entries = self.entries()
        left = {name: entry for name, entry in entries.items() if name not in machines}
        if left != entries:
            write_json(self._file, left)


def entries(spec: ClusterSpec) -> Entries:
    """List for each machine what it takes to make it clean again."""
    from perennial.platforms.hosts import machine_services

    return {
        name: {
            "share": machine_services.to_json(assigned),
            "wish": machine_services.environment_spec(spec, assigned),
        }
        for name, assigned in machine_services.services_by_machine(spec).items()
    }


def clean(entries: Mapping[str, Entry], say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Remove from machines what was half made there."""
    from perennial.platforms.hosts import deploy
    from perennial.platforms.hosts.machine_services import from_json

    done, failed = [], []
    for name, entry in entries.items():
        try:
            assigned = from_json(entry["share"])
            say(f"removing what was half made on {name}")
            deploy.remove_services(assigned, say, Owner(stack=UP))
            deploy.remove_environment(assigned.target, entry["wish"])
            done.append(name)
        except PerennialError as error:
            failed.append(str(error))
    return done, failed
