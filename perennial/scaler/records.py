"""What was seen and decided, kept as JSON lines: one for each tick and group that says something.

The fields of a record are fixed: `perennial.scaler.history` also reads those of years ago. So that
years of standing do not fill a disk, a record like the one before it is written once in a minute,
one in which only figures differ every ten seconds, and the files are rotated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from perennial.files import make_private
from perennial.scaler import timing
from perennial.scaler.history import Record
from perennial.scaler.values import Decision, Demand, Load, Rules, Standing

#: Name of the newest file; those before it have ``.1`` and ``.2`` after theirs.
FILE = "records.jsonl"
#: Bytes of a file, and how many files are kept.
SIZE, FILES = 10 * 2**20, 3

#: What makes a record an event: with one of these changed it is always written.
_EVENTS = (
    *("seen", "existing", "asked", "starting", "draining", "to", "leave", "back"),
    *("rule", "partial", "trouble", "mode"),
)
#: What changes with time alone.
_TIMES = ("time", "again", "reason", "numbers")


def files(folder: Path) -> list[Path]:
    """List the files of records that there can be, the oldest first."""
    older = [folder / f"{FILE}.{age}" for age in range(FILES - 1, 0, -1)]
    return [*older, folder / FILE]


class Log:
    """The file to which records are written."""

    def __init__(self, folder: Path, size: int = SIZE) -> None:
        self.path = folder / FILE
        self.size = size
        self._latest: dict[str, Record] = {}

    def write(self, records: Iterable[Record]) -> None:
        """Write those of a tick's records that say something."""
        chosen = [each for each in records if _says(self._latest.get(each["group"]), each)]
        if not chosen:
            return
        lines = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in chosen)
        make_private(self.path.parent)
        self._rotate(len(lines))
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            length = os.fstat(handle).st_size
            if length and os.pread(handle, 1, length - 1) != b"\n":
                lines = "\n" + lines  # an earlier process was killed in the middle of a line
            os.write(handle, lines.encode())
        finally:
            os.close(handle)
        self._latest.update((each["group"], each) for each in chosen)

    def _rotate(self, more: int) -> None:
        if not self.path.exists() or self.path.stat().st_size + more <= self.size:
            return
        names = files(self.path.parent)
        for older, newer in pairwise(names):
            if newer.exists():
                newer.replace(older)


def _says(before: Record | None, record: Record) -> bool:
    """Whether a record says what the one before it did not."""
    if before is None or any(before[key] != record[key] for key in _EVENTS):
        return True
    same = all(before[key] == record[key] for key in record if key not in _TIMES)
    age = record["time"] - before["time"]
    pause = timing.SAME_AGAIN if same else timing.FIGURES_AGAIN
    return not 0 <= age < pause  # below 0: the clock was set back


def record(
    decision: Decision,
    standing: Standing,
    demand: Demand | None,
    rules: Rules,
    *,
    time: float,
    mode: str,
    trouble: str = "",
    infeasible: Iterable[str] = (),
) -> Record:
    """Write down what a tick has seen of a group and decided for it."""
    name = decision.group
    observation = standing.observation
    seen = demand.groups.get(name) if demand else None
    members = observation.members if observation else ()
    registered = set(seen.names) if seen else set()
    waiting = [each for each in members if each.worker not in registered]
    load = _load(name, demand, rules)
    return {
        "time": round(time, 3),
        "group": name,
        "seen": seen.members if seen else 0 if demand else None,
        "existing": len(members) if observation else None,
        "asked": observation.desired if observation else None,
        "starting": sum(each.state != "leaving" for each in waiting) if demand else None,
        "draining": len(standing.draining),
        "current": decision.current,
        **load,
        # What the policy has given to the group, where it got so far.
        "demand": int(decision.numbers.get("tasks", load["demand"])),
        "busy": seen.busy if seen else 0,
        "memory": seen.memory if seen else 0,
        "limit": seen.limit if seen else 0,
        "to": decision.to,
        "pin": next(each.pin for each in rules.groups if each.name == name),
        "leave": list(decision.leave),
        "back": list(decision.back),
        "rule": decision.rule,
        "reason": decision.reason,
        "numbers": {key: round(float(value), 3) for key, value in decision.numbers.items()},
        "again": None if decision.again is None else round(decision.again, 1),
        "partial": demand.partial if demand else "",
        "trouble": "; ".join(filter(None, (standing.trouble, trouble))),
        "mode": mode,
        "infeasible": list(infeasible),
    }


def _load(name: str, demand: Demand | None, rules: Rules) -> dict[str, Any]:
    """Work that the group has and could have."""
    group = next(each for each in rules.groups if each.name == name)
    queued = unrunnable = processing = 0
    seconds = 0.0
    ready = 0.0
    for work in demand.work if demand else ():
        mine = work.processing.get(name, Load())
        processing += mine.tasks
        seconds += mine.seconds
        ready += mine.tasks
        fits = all(group.resources.get(r, 0) >= need for r, need in work.signature.resources)
        if fits and not work.signature.pinned:
            queued += work.queued.tasks
            unrunnable += work.unrunnable.tasks
            seconds += work.queued.seconds + work.unrunnable.seconds
            ready += work.queued.tasks + work.unrunnable.tasks
    return {
        "queued": queued,
        "unrunnable": unrunnable,
        "processing": processing,
        "work": round(seconds, 3),
        "demand": int(ready),
    }
