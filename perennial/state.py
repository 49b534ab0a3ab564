"""What a cluster on this machine remembers between two commands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from perennial.files import read_json, write_json
from perennial.paths import ClusterPaths


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
