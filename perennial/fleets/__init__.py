"""The platforms that a cluster can stand on.

Values are dotted strings and are imported on use, so that a laptop needs no cloud's library.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from perennial.errors import Fault, SpecError

#: Platform → module that holds its ``Options``.
PLATFORMS = {
    "local": "perennial.fleets.local",
    "hosts": "perennial.fleets.hosts",
}


def options(platform: str) -> Any:
    """Model of what a user writes for a platform, under the platform's own key.

    Parameters
    ----------
    platform : str
        Name of a platform.

    Raises
    ------
    SpecError
        For a platform that is not in the registry; names the nearest one.
    """
    if platform not in PLATFORMS:
        near = get_close_matches(platform, PLATFORMS, n=1)
        fix = f"did you mean {near[0]}?" if near else "write one of these"
        raise SpecError([Fault("platform", repr(platform), ", ".join(sorted(PLATFORMS)), fix)])
    return import_module(PLATFORMS[platform]).Options
