"""The packages of a Python environment; runs on workers, too."""

from __future__ import annotations

from importlib import metadata


def installed() -> dict[str, str]:
    """Names and versions of the packages of this environment; runs on a worker."""
    import platform

    found = {"python": platform.python_version()}
    for distribution in metadata.distributions():
        # Python imports the first one that it finds of a name.
        found.setdefault(distribution.metadata["Name"] or "?", distribution.version)
    return found
