"""`doctor` for a cluster on machines over SSH, and for one whose bundle was read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perennial.local.doctor import Finding


def examine(name: str, python: str | None) -> Iterator[Finding]:
    """Run every check on a cluster, or those that somebody with a bundle can."""
    from perennial import connect
    from perennial.hosts import doctor
    from perennial.hosts.operator import find
    from perennial.paths import known_clusters

    if name in known_clusters():
        return doctor.examine(find(name), python)
    return doctor.examine_from_outside(connect.find(name), python)
