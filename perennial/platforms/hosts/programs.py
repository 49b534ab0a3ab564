"""The members of a machine's groups under the cluster's own supervisord, for its keeper.

A deploy has written the program of each group once, with a mark in the place of a member's
number. A member is such a text with its number in it, in supervisord's folder; so supervisord
itself brings it back when the machine has rebooted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.paths import ClusterPaths
from perennial.platforms.hosts.agent.reconciling import State
from perennial.supervision.single_instance import forget, holder
from perennial.supervision.supervisor import Process, Supervisor

#: Stands for a member's number in the program of a group. Digits, so that it is quoted as a number
#: is: what a keeper writes must be to the letter what a deploy would write.
MARK = "904170853119604"

#: Folder of the groups' programs, beside the keeper's configuration.
FOLDER = "kept"

#: supervisord's word for a program's state → ours.
_STATES: dict[str, State] = {
    "RUNNING": "running",
    "STARTING": "starting",
    "BACKOFF": "starting",
    "STOPPING": "leaving",
}


class Programs:
    """Members that are programs of a supervisord."""

    def __init__(self, root: Path, machine: str, groups: Collection[str], texts: Path) -> None:
        self._paths = ClusterPaths(root)
        self._prefixes = {group: f"{group}-{machine}-" for group in groups}
        self._texts = texts
        self._supervisor = Supervisor(self._paths.socket)

    def states(self) -> dict[str, dict[int, State]]:
        """Look what is there."""
        found: dict[str, dict[int, State]] = {group: {} for group in self._prefixes}
        for name, process in self._supervisor.processes().items():
            for group, prefix in self._prefixes.items():
                match = re.fullmatch(re.escape(prefix) + "(0|[1-9][0-9]{0,5})", name)
                state = self._state(process) if match else None
                if match and state:
                    found[group][int(match[1])] = state
        return found

    def start(self, group: str, numbers: Collection[int]) -> None:
        """Start members; does not wait."""
        text = self._text(group)
        names = {number: f"{self._prefixes[group]}{number:d}" for number in numbers}
        for number, name in names.items():
            write_atomic(self._unit(name), text.replace(MARK, str(number)))
        known = self._supervisor.processes()
        for name in names.values():
            if name in known:  # it has stopped, and its text may be another one now
                self._supervisor.remove(name)
            forget(self._paths.run / f"{name}.lock")
        self._supervisor.reload()
        for name in names.values():
            self._supervisor.add(name)

    def stop(self, group: str, numbers: Collection[int]) -> None:
        """Have members drain and stop; does not wait."""
        for number in numbers:
            name = f"{self._prefixes[group]}{number:d}"
            # First, so that no supervisord that starts anew brings it back.
            self._unit(name).unlink(missing_ok=True)
            self._supervisor.signal_stop(name)

    def _state(self, process: Process) -> State | None:
        state = _STATES.get(process.state)
        if state is None and holder(self._paths.run / f"{process.name}.lock")[0]:
            return "leaving"  # it lives on without the supervisord that has started it
        return state

    def _unit(self, name: str) -> Path:
        return self._paths.units / f"{name}.conf"

    def _text(self, group: str) -> str:
        file = self._texts / f"{group}.conf"
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            raise PerennialError(
                f"{file}: {error.strerror}; `perennial up` or `pulumi up` writes it"
            ) from None
