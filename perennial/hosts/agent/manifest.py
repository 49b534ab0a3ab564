"""What a cluster has on this machine, as one file remembers it. It belongs to root alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perennial.files import read_json

#: Everything of a cluster that is no unit and no configuration stands below it.
STATE = Path("/var/lib/dask-perennial")


def path(cluster: str) -> Path:
    """File that remembers what a cluster has on this machine."""
    return STATE / cluster / "manifest.json"


def lock(cluster: str) -> Path:
    """File that one deploy at a time holds; gone after a reboot."""
    folder = Path("/run/lock")  # some machines have none
    return (folder if folder.is_dir() else folder.parent) / f"dask-perennial-{cluster}.lock"


def read(cluster: str) -> dict[str, Any]:
    """Read what a cluster has on this machine; empty when it has nothing."""
    found: dict[str, Any] = read_json(path(cluster), {})
    return found
