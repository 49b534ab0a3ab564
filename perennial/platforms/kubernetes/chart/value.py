"""A value of the chart while it is taken over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.platforms.kubernetes.chart.draft import Draft
from perennial.platforms.kubernetes.chart.table import Row


@dataclass(frozen=True, slots=True)
class Value:
    """A value, and what it is of."""

    draft: Draft
    row: Row
    #: Key path in the file, where it differs from that of the row in a group.
    key: str
    value: Any
    #: All values of its part of the chart.
    part: Mapping[str, Any]
    #: The group that it is of; empty where it is of none.
    group: str
    #: Whether it stands in the file.
    written: bool

    def put(self, value: Any, path: str = "") -> bool:
        """Set a key of the cluster file, unless it is set."""
        return self.draft.put(path or self.row.ours, value, self.key, NAME=self.group)

    def lose(self, why: str) -> None:
        """Say once that there is no counterpart."""
        if self.written:
            self.draft.lose(self.key, why)

    def differ(self, why: str) -> None:
        """Say once what is different."""
        if self.written:
            self.draft.differ(self.key, why)
