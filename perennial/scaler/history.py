"""What the scaler has done: its records, from files and from the scheduler, and the events in them.

A record is what `perennial.scaler.records` writes, a mapping for each tick and group. A key that
is not there is not missed, so that records of another version can be read as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError

#: What a tick has seen of a group and decided, see `perennial.scaler.records`.
Record = Mapping[str, Any]

#: The scaler's modes, and what each means.
MODES = {
    "act": "the scaler acts on its decisions",
    "dry-run": "the scaler only records what it would do",
    "paused": "the scaler is paused: it records what it would do and changes nothing;"
    " `perennial resume` ends that",
}


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a person would call an event."""

    #: When.
    time: float
    #: Name.
    group: str
    #: Size that was decided before, and now.
    before: int
    to: int
    #: The rule that was binding; ``trouble`` or the scaler's mode for what is no change of size.
    rule: str
    #: Why, in a sentence.
    text: str

    def to_json(self) -> dict[str, object]:
        """Write it as JSON can hold it."""
        return asdict(self)


def read(files: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """Read files of records, the oldest first; nothing in them is taken for granted."""
    records: list[Record] = []
    notes: list[str] = []
    for file in files:
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        parsed = [_parse(line) for line in lines if line.strip()]
        records += [record for record in parsed if record is not None]
        if damaged := parsed.count(None):
            lines_ = "1 line is" if damaged == 1 else f"{damaged} lines are"
            notes.append(f"{file}: {lines_} damaged (cut off, say) and skipped")
    return sorted(records, key=lambda record: float(record["time"])), notes


def _parse(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
        return found if isinstance(found["group"], str) and float(found["time"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def merge(*sources: Iterable[Record]) -> list[Record]:
    """Put records of several sources together; what several know stands there once."""
    found: dict[tuple[float, str], Record] = {}
    for source in sources:
        for record in source:
            found.setdefault((round(float(record["time"]), 2), str(record["group"])), record)
    return [found[key] for key in sorted(found)]


def latest(records: Iterable[Record], until: float | None = None) -> dict[str, Record]:
    """Find the record of each group that held at a time."""
    return {
        str(record["group"]): record
        for record in records
        if until is None or float(record["time"]) <= until
    }


def changes(records: Iterable[Record]) -> list[Change]:
    """Find the events in a history: changes of size, of the scaler's mode, and troubles."""
    found: list[Change] = []
    before: dict[str, Record] = {}
    for record in records:
        group = str(record["group"])
        last = before.get(group)
        before[group] = record
        stamp, to = float(record["time"]), int(record.get("to") or 0)
        was = int((last if last is not None else {"to": record.get("asked", to)}).get("to") or 0)
        mode, trouble = str(record.get("mode") or "act"), str(record.get("trouble") or "")
        old = last if last is not None else {}
        if mode != (old.get("mode") or "act"):
            found.append(Change(stamp, group, was, was, mode, MODES.get(mode, mode)))
        if trouble and not old.get("trouble"):
            found.append(Change(stamp, group, was, was, "trouble", trouble))
        if to != was:
            rule, reason = str(record.get("rule") or ""), str(record.get("reason") or "")
            found.append(Change(stamp, group, was, to, rule, reason))
    return found


def known_group(group: str, records: Sequence[Record], cluster: str) -> None:
    """Refuse a group that no record is about."""
    names = sorted({str(record["group"]) for record in records})
    if group not in names:
        raise PerennialError(
            f"{group}: no record of this group of {cluster}; there is"
            f" {', '.join(names) or 'none of any group'}"
        )
