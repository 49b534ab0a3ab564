"""What services wrote: systemd's journal, or the log files beside supervisord."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from perennial.platforms.hosts.agent import manifest
from perennial.supervision.single_instance import abandoned_mark

#: Seconds in which a log must be read.
TIMEOUT = 60.0

#: What a worker's log says of a drain that was not complete, see `perennial.preloads.drain`.
_LEAVES = re.compile(r" leaves after [0-9.]+ s without a complete drain: .*; abandons (.+)$")
#: The most that is read of a log at a time, in bytes.
LONGEST = 2**20
#: Bytes of what a member says that it abandons.
_NOTE = 1 << 16


def log(cluster: str, unit: str, lines: int) -> list[str]:
    """Read the last lines that a service wrote."""
    return log_since(cluster, unit, lines, None)[0]


def log_since(
    cluster: str, unit: str, lines: int, cursor: str | None
) -> tuple[list[str], str | None]:
    """Read what a service wrote since the last look."""
    known = manifest.read(cluster)
    if known.get("init") == "supervisord":
        return _of_file(cluster, unit, lines, cursor)
    where = ["--after-cursor", cursor] if cursor else ["-n", str(lines)]
    text = _run(
        *("journalctl", "--no-pager", "-o", "short-iso", "--show-cursor", "--unit", unit, *where)
    )
    found = [line for line in text.splitlines() if not line.startswith("-- ")]
    marks = [line for line in text.splitlines() if line.startswith("-- cursor: ")]
    return found, marks[-1].removeprefix("-- cursor: ") if marks else cursor


def leaving(cluster: str, units: Sequence[str]) -> str | None:
    """Prepare to read what members abandon: returns what `left` is to be given."""
    if manifest.read(cluster).get("init") == "supervisord":
        for unit in units:
            _note(cluster, unit).unlink(missing_ok=True)
        return None
    text = _run("journalctl", "--no-pager", "-o", "cat", "--show-cursor", "-n", "1")
    marks = [line for line in text.splitlines() if line.startswith("-- cursor: ")]
    return marks[-1].removeprefix("-- cursor: ") if marks else None


def left(cluster: str, units: Sequence[str], since: str | None) -> dict[str, str]:
    """Say what members abandoned since; who abandoned nothing is left out."""
    if manifest.read(cluster).get("init") == "supervisord":
        found = {unit: _read(_note(cluster, unit)).splitlines() for unit in units}
    else:
        where = [f"--after-cursor={since}"] if since else []
        text = _run(
            *("journalctl", "--no-pager", "--quiet", "-o", "json", *where),
            *("--output-fields=MESSAGE,_SYSTEMD_UNIT", *(f"--unit={unit}" for unit in units)),
        )
        found = abandoned(text)
    return {unit: ", ".join(lost) for unit, lost in found.items() if lost}


def abandoned(text: str) -> dict[str, list[str]]:
    """Find in entries of the journal, one of JSON a line, what units abandoned. Pure."""
    found: dict[str, list[str]] = {}
    # A message may hold what Unicode calls an end of a line.
    for entry in map(json.loads, filter(None, text.split("\n"))):
        # A message that is no text comes as a list of numbers.
        match = _LEAVES.search(str(entry.get("MESSAGE")))
        if match and match[1] != "nothing":
            found.setdefault(str(entry.get("_SYSTEMD_UNIT")), []).append(match[1])
    return found


def _note(cluster: str, name: str) -> Path:
    return Path(abandoned_mark(manifest.supervised(cluster) / "run" / f"{name}.lock"))


def _read(path: Path) -> str:
    """Read what a program of another user has written; a link or a pipe is nothing."""
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(file, _NOTE).decode(errors="replace")
        finally:
            os.close(file)
    return ""


def _of_file(cluster: str, unit: str, lines: int, cursor: str | None) -> tuple[list[str], str]:
    """Read a log file.

    The cursor is the file's number and an offset in bytes, whatever letters the bytes make.
    """
    try:
        file = (manifest.supervised(cluster) / "logs" / f"{unit}.log").open("rb")
    except OSError:
        return [], "0 0"
    with file:
        status = os.fstat(file.fileno())
        if cursor is None:
            file.seek(max(status.st_size - LONGEST, 0))
            data = file.read(LONGEST)
            return _lines(data)[-lines:] if lines else [], f"{status.st_ino} {status.st_size}"
        known, _, offset = cursor.partition(" ")
        # A log that is another file or became shorter was begun anew.
        same = known == str(status.st_ino) and int(offset) <= status.st_size
        start = int(offset) if same else 0
        file.seek(start)
        data = file.read(LONGEST)
    full = len(data) >= LONGEST
    whole = data[: data.rfind(b"\n") + 1] or data * full  # a line that long has no end here
    return _lines(whole), f"{status.st_ino} {start + len(whole)}"


def _lines(data: bytes) -> list[str]:
    return data.decode(errors="replace").splitlines()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, check=False, timeout=TIMEOUT)
    return done.stdout.decode(errors="replace")
