"""What a cluster on this machine remembers between two commands."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

from perennial.errors import PerennialError
from perennial.files import make_private, read_json, write_json
from perennial.paths import ClusterPaths, cluster_state

#: What changes a cluster → what does so where a stack of the user's own deploys it.
PULUMI = {
    "plan": "preview",
    "up": "up",
    "refresh": "refresh",
    "down": "destroy",
    "forget": "state delete URN",
}
#: What deploys a cluster where no stack of the user's own does. Such a stack can have the project
#: and the name of ours; no name has a space.
UP = "perennial up"


@dataclass(frozen=True, slots=True)
class State:
    """What was applied last."""

    #: The cluster file.
    file: str | None = None
    #: Count of each group in that file.
    declared: dict[str, int] = field(default_factory=dict)
    #: Size of each group now.
    sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, paths: ClusterPaths) -> State:
        """Read it; empty when nothing was applied yet."""
        found: dict[str, Any] = read_json(paths.state) if paths.state.exists() else {}
        return cls(
            file=found.get("file"),
            declared=dict(found.get("declared", {})),
            sizes=dict(found.get("sizes", {})),
        )

    def save(self, paths: ClusterPaths) -> None:
        """Write it."""
        write_json(paths.state, asdict(self))


@dataclass(frozen=True, slots=True)
class Stack:
    """The stack of the user's own Pulumi that deploys a cluster."""

    #: As the user names it: ``dev``, ``org/project/dev``.
    name: str
    #: Folder of its program.
    folder: str

    def __str__(self) -> str:
        return f"{self.name} in {self.folder}"

    @classmethod
    def load(cls, paths: ClusterPaths) -> Stack | None:
        """Read which stack deploys a cluster; None where `perennial up` does."""
        found = read_json(paths.stack)
        try:
            return None if found is None else cls(**found)
        except TypeError:
            raise PerennialError(
                f"{paths.stack} is damaged: no stack in it; remove it, then run `perennial connect"
                " --stack` again"
            ) from None

    def save(self, paths: ClusterPaths) -> None:
        """Write it."""
        make_private(paths.root)
        write_json(paths.stack, asdict(self))

    def command(self, words: str) -> str:
        """Return the command that does something to the stack."""
        folder, name = shlex.quote(self.folder), shlex.quote(self.name)
        return f"`pulumi -C {folder} {words} --stack {name}`"


def command(verb: str, cluster: str) -> str:
    """Return the command that changes a cluster: ours, or that of the stack which deploys it."""
    stack = Stack.load(cluster_state(cluster))
    return f"`perennial {verb}`" if stack is None else stack.command(PULUMI[verb])
