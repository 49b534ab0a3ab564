"""What became of files: digest, mode and owner."""

from __future__ import annotations

import hashlib
import os
import pwd
from collections.abc import Iterable
from typing import Any


def states(paths: Iterable[str]) -> dict[str, list[Any]]:
    """Digest, mode and owner of each file that is there."""
    return {path: found for path in paths if (found := _state(path)) is not None}


def _state(path: str) -> list[Any] | None:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
            status = os.fstat(file.fileno())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return [digest, status.st_mode & 0o7777, _user_name(status.st_uid)]


def _user_name(uid: int) -> str | None:
    if uid == 0:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"
