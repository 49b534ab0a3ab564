"""The one place that writes files: a crash at any point leaves the old file or the new one."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError


def make_private(folder: Path) -> None:
    """Make a folder and its missing parents, readable by this user alone."""
    if folder.is_dir():
        return
    make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def write_atomic(
    path: Path, content: str | bytes, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Write a file so that nobody ever reads half of it."""
    data = content.encode() if isinstance(content, str) else content
    make_private(path.parent)
    # The name ends in .tmp: Dask reads every .yaml and .json in its configuration folder.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_json(path: Path, missing: Any = None) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return missing
    except ValueError as error:  # not JSON, or not UTF-8
        raise PerennialError(
            f"{path} is damaged: not valid JSON ({error}); restore the file or remove it"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, with its keys in order, so that nobody ever reads half of it."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, not only the content behind it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
