"""What the scaler has begun, written down before it is done.

A scaler can be killed at any instant. What it wanted of a member then stands here, and the next
one finds it: a drain goes on, with the time that it has had already; a return goes on; a member
that was given to the platform to remove is looked for there. What has ended is struck off.
"""

from __future__ import annotations

import json
import os
import time as clocks
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from perennial.files import make_private, write_atomic
from perennial.scaler.boot import boot, elapsed, uptime

#: What can be wanted of a member: that it is drained, that it is brought back.
Doing = Literal["drain", "remove", "return"]

#: Bytes after which the log is written anew, without what has ended.
SIZE = 256 * 2**10


@dataclass(frozen=True, slots=True)
class Intent:
    """What was begun with a member."""

    #: Names.
    group: str
    member: str
    #: What is wanted: that it is drained; that the platform removes it, for it is drained; that its
    #: drain is undone.
    doing: Doing
    #: When that was begun, in seconds since the epoch; of a removal, when its drain was.
    since: float
    #: The decision's reason.
    why: str = ""
    #: The same instant as ``since`` by a clock that nobody can set: `perennial.scaler.boot.uptime`
    #: of this boot. What was begun in another boot begins anew.
    begun: float = field(default_factory=uptime, compare=False)


class Intents:
    """The log of intents and what is open in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "intents.jsonl"
        self.open: dict[tuple[str, str], Intent] = {}
        self.damaged = 0
        make_private(folder)
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                self._replay(line)
        self._compact()

    def begin(self, intents: Iterable[Intent]) -> None:
        """Write intents down; they are on the disk when this returns."""
        chosen = list(intents)
        self._append([_line(each) for each in chosen])
        self.open.update(((each.group, each.member), each) for each in chosen)
        self._limit()

    def end(self, group: str, members: Iterable[str], how: str) -> None:
        """Strike off what has ended."""
        ended = [name for name in members if (group, name) in self.open]
        if not ended:
            return
        for name in ended:
            del self.open[group, name]
        self._append(
            {"time": clocks.time(), "group": group, "member": name, "doing": "end", "why": how}
            for name in ended
        )
        self._limit()

    def of(self, group: str) -> dict[str, Intent]:
        """List what is wanted of a group's members, by worker name."""
        return {name: intent for (where, name), intent in self.open.items() if where == group}

    def _replay(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            key = str(found["group"]), str(found["member"])
            if found["doing"] == "end":
                self.open.pop(key, None)
                return
            if found["doing"] not in get_args(Doing):
                raise ValueError(found["doing"])
            doing = cast(Doing, found["doing"])
            since, why = float(found["since"]), str(found.get("why", ""))
            ago = elapsed(found.get("boot"), float(found.get("begun", 0.0)))
            self.open[key] = Intent(*key, doing, since, why, uptime() - (ago or 0.0))
        except (ValueError, KeyError, TypeError):
            self.damaged += bool(line.strip())

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in lines)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(handle).st_size
            try:
                if os.write(handle, text.encode()) != len(text.encode()):
                    raise OSError(f"{self.path}: no room for what is to be done")
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)  # half a line would swallow the next one
                raise
        finally:
            os.close(handle)

    def _limit(self) -> None:
        if self.path.stat().st_size > SIZE:
            self._compact()

    def _compact(self) -> None:
        lines = [
            json.dumps(_line(each), separators=(",", ":")) + "\n" for each in self.open.values()
        ]
        write_atomic(self.path, "".join(lines))


def _line(intent: Intent) -> dict[str, Any]:
    return {
        "time": clocks.time(),
        "group": intent.group,
        "member": intent.member,
        "doing": intent.doing,
        "since": intent.since,
        "why": intent.why,
        "boot": boot(),
        "begun": intent.begun,
    }
