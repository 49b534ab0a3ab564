"""Wheels of the tests' environment, kept in the cache folder until their sources change."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tests.labs.hosts.base import CHECKOUT, cache
from tests.labs.hosts.wheels import make_wheelhouse

#: What dask-perennial's own wheel is made of.
_SOURCES = ("perennial", "stacks", "supervisord", "systemd", "templates")


def wheelhouse() -> Path:
    """Give a folder with wheels of dask-perennial and of all that it requires."""
    digest = hashlib.sha256()
    files = [CHECKOUT / "constraints.txt", CHECKOUT / "pyproject.toml"]
    for source in _SOURCES:
        files += sorted((CHECKOUT / source).rglob("*.py"))
        files += sorted((CHECKOUT / source).rglob("*.j2"))
    for file in files:
        digest.update(f"{file.relative_to(CHECKOUT)}\n".encode())
        digest.update(file.read_bytes())
    kept = cache("wheels")
    folder = kept / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=kept) as place:
        made = make_wheelhouse(Path(place) / "wheels")
        try:
            made.rename(folder)
        except OSError:
            # Somebody else was quicker.
            if not folder.is_dir():
                raise
    return folder
