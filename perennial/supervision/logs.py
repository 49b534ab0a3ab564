"""Read the logs of services, and follow them across their rotation."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

#: Bytes at the end of a log in which the reason of a service's end is looked for.
END = 16384
#: Letters of a line that are shown, the last ones.
LONGEST = 300
#: The last line of a traceback, and a line that Python's logging has marked.
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(: |$)")
_MARKED = re.compile(r"\b(ERROR|CRITICAL)\b|^(Usage|Error|usage|error|jupyter): ")


def informative_line(log: Path) -> str:
    """Return the line of a log that says why its service ended: an error's, else the last one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - END))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "(no log)"
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return "(empty log)"
    errors = (
        line for mark in (_RAISED.match, _MARKED.search) for line in reversed(said) if mark(line)
    )
    return repr(next(errors, said[-1])[-LONGEST:])


def tail(path: Path, lines: int) -> list[str]:
    """Last lines of a log; empty when there is none."""
    return _tail(path, lines)[0]


def _tail(path: Path, lines: int) -> tuple[list[str], int]:
    """Last lines of a log, and the size that it had then."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            # 400 bytes a line are plenty; a longer log is read from its end only.
            start = file.seek(max(0, size - 400 * max(lines, 1)))
            text = file.read(size - start).decode(errors="replace")
    except FileNotFoundError:
        return [], 0
    return (text.splitlines()[-lines:] if lines else []), size


def follow(paths: list[Path], lines: int, interval: float = 0.2) -> Iterator[tuple[Path, str]]:
    """Yield the last lines of logs and then each new one, for ever."""
    offsets: dict[Path, int] = {}
    rest: dict[Path, bytes] = {}
    for path in paths:
        old, offsets[path] = _tail(path, lines)
        for line in old:
            yield path, line
    while True:
        for path in paths:
            for line in _new_lines(path, offsets, rest):
                yield path, line
        time.sleep(interval)


def _new_lines(path: Path, offsets: dict[Path, int], rest: dict[Path, bytes]) -> Iterator[str]:
    try:
        size = path.stat().st_size
        if size < offsets[path]:  # rotated: emptied in place
            offsets[path] = 0
        if size == offsets[path]:
            return
        with path.open("rb") as file:
            file.seek(offsets[path])
            data = rest.get(path, b"") + file.read()
    except FileNotFoundError:
        return
    offsets[path] += len(data) - len(rest.get(path, b""))
    *whole, rest[path] = data.split(b"\n")
    for line in whole:
        yield line.decode(errors="replace")
