"""`doctor` for a cluster on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perennial.local.doctor import Finding


def examine(name: str, python: str | None) -> Iterator[Finding]:
    """Run every check on a cluster."""
    from perennial.local import deploy
    from perennial.local.doctor import examine as run

    return run(deploy.find(name, lambda _text: None), python)
