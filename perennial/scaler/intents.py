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
from pathlib import Path
from typing import Any, cast, get_args

from perennial.files import make_private, write_atomic
from perennial.scaler.boot import boot, elapsed, uptime
from perennial.scaler.members import Doing, Intent, MemberTracker
from perennial.scaler.workers import Who

#: Bytes after which the log is written anew, without what has ended.
SIZE = 256 * 2**10


class Intents:
    """The log of what is begun with members; what is open in it, the tracker has."""

    def __init__(self, folder: Path, tracker: MemberTracker | None = None) -> None:
        self.path = folder / "intents.jsonl"
        self.tracker = tracker or MemberTracker()
        self.damaged = 0
        make_private(folder)
        found: dict[Who, Intent] = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                self._replay(line, found)
        for intent in found.values():
            self.tracker.restore(intent)
        self._compact()

    @property
    def open(self) -> dict[Who, Intent]:
        """What is begun and has not ended."""
        return self.tracker.intents()

    def begin(self, intents: Iterable[Intent]) -> None:
        """Write intents down; they are on the disk when this returns."""
        chosen = list(intents)
        self._append([_line(each) for each in chosen])
        for each in chosen:
            self.tracker.intend(each)
        self._limit()

    def end(self, group: str, members: Iterable[str], how: str) -> None:
        """Strike off what has ended."""
        ended = [name for name in members if self.tracker.strike((group, name))]
        if not ended:
            return
        self._append(
            {"time": clocks.time(), "group": group, "member": name, "doing": "end", "why": how}
            for name in ended
        )
        self._limit()

    def _replay(self, line: bytes, into: dict[Who, Intent]) -> None:
        try:
            found = json.loads(line)
            key = str(found["group"]), str(found["member"])
            if found["doing"] == "end":
                into.pop(key, None)
                return
            if found["doing"] not in get_args(Doing):
                raise ValueError(found["doing"])
            doing = cast(Doing, found["doing"])
            since, why = float(found["since"]), str(found.get("why", ""))
            ago = elapsed(found.get("boot"), float(found.get("begun", 0.0)))
            into[key] = Intent(*key, doing, since, why, uptime() - (ago or 0.0))
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
                os.ftruncate(handle, before)  # half a line would corrupt the next one
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


def _line(intent: Intent) -> dict[str, object]:
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
