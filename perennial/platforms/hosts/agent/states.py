"""The state of files: digest, mode and owner."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Manifest

#: Longest file of supervisord's that is read, in bytes.
LONGEST = 2**22


def states(paths: Iterable[str]) -> dict[str, list[Any]]:
    """Digest, mode and owner of each file that is there."""
    return {path: found for path in paths if (found := _state(path)) is not None}


def edited(files: Mapping[str, Sequence[Any]], expected: Mapping[str, Sequence[Any]]) -> Any:
    """When the files that are not as deployed were written, in seconds since the epoch."""
    found = {}
    for path, state in files.items():
        if path in expected and state[0] != expected[path][0]:
            with suppress(OSError):
                found[path] = os.stat(path).st_mtime
    return found


def digests(paths: Iterable[str]) -> dict[str, str]:
    """Digest of each file that is there; not root's, so that it can be anything else as well."""
    found = {}
    for path in paths:
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(handle, "rb") as file:
                if stat.S_ISREG(os.fstat(handle).st_mode):
                    found[path] = hashlib.sha256(file.read(LONGEST)).hexdigest()
    return found


def altered(folder: Path, known: Manifest) -> list[str]:
    """List the programs of a keeper's members that are not as the keeper has written them."""
    found = []
    for prefix, source in known.get("kept_programs", {}).items():
        if digests([source]).get(source) != known["expected"][source][0]:
            continue  # the program itself was edited
        with suppress(OSError):
            text = Path(source).read_text(encoding="utf-8")
            for path in sorted(folder.glob(f"{prefix}*.conf")):
                number = path.stem.removeprefix(prefix)
                wanted = hashlib.sha256(text.replace(known["mark"], number).encode()).hexdigest()
                if number.isdecimal() and digests([str(path)]).get(str(path), wanted) != wanted:
                    found.append(str(path))
    return found


def since(pid: int) -> float | None:
    """When a process was started, in seconds since the epoch by the clock as it is now."""
    with suppress(OSError, ValueError, IndexError):
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - age
    return None


def _state(path: str) -> list[Any] | None:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
            status = os.fstat(file.fileno())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return [digest, status.st_mode & 0o7777, _user_name(status.st_uid)]


def _user_name(uid: int) -> str | None:
    if uid == os.geteuid():
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"
