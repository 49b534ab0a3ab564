"""A cluster file while it is made of a chart's values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perennial.errors import Fault
from perennial.spec.tree import Tree
from perennial.spec.words import show

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """What a value has become, where that is not the same."""

    #: Key path in the values file.
    key: str
    #: Why it has no counterpart, or what is different.
    why: str
    #: Whether it has none.
    lost: bool


@dataclass(slots=True)
class Draft:
    """What is put together, and what has to be said of it."""

    #: The values file, for lines.
    tree: Tree | None
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    #: Which value of the chart a key of the cluster file was made of.
    origins: dict[Location, str] = field(default_factory=dict)
    #: What stands above the chart's keys in the file: `dask` in that of an umbrella chart.
    prefix: str = ""

    def put(self, path: str, value: Any, key: str, **names: str) -> bool:
        """Set a key of the cluster file, unless it is set; say whether it was."""
        *above, last = (names.get(step, step) for step in path.split("."))
        place = self.data
        for step in above:
            place = place.setdefault(step, {})
        if last in place:
            return False
        place[last] = value
        self.origins[(*above, last)] = key
        return True

    def get(self, path: str, **names: str) -> Any:
        """Return what a key of the cluster file has."""
        place: Any = self.data
        for step in path.split("."):
            place = place.get(names.get(step, step)) if isinstance(place, Mapping) else None
        return place

    def lose(self, key: str, why: str) -> None:
        """Say that a value has no counterpart."""
        self.notes.append(Note(self.prefix + key, why, lost=True))

    def differ(self, key: str, why: str) -> None:
        """Say what is different."""
        self.notes.append(Note(self.prefix + key, why, lost=False))

    def refuse(self, key: str, found: Any, allowed: str, fix: str = "correct the value") -> None:
        """Refuse a value that the chart cannot use either."""
        path = self.prefix + key
        self.faults.append(Fault(path, show(found), allowed, fix, self.line(path)))

    def line(self, path: str) -> int | None:
        """Return the line of a key path of the values file, or of what is nearest above it."""
        steps = re.findall(r"[^.\[\]]+|\[\d+\]", path)
        location = [int(step[1:-1]) if step[0] == "[" else step for step in steps]
        return self.tree.line(tuple(location)) if self.tree else None

    def origin(self, path: str) -> str:
        """Name the value that a key path of the cluster file was made of; empty for none."""
        for location, key in sorted(self.origins.items(), key=lambda each: -len(each[0])):
            ours = ".".join(map(str, location))
            if path == ours or path.startswith((f"{ours}.", f"{ours}[")):
                return self.prefix + key
        return ""
