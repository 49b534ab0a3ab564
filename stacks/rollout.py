"""Rolling changes: how many members of a group may be away at a time, over all machines.

Pulumi runs the providers of a deployment in the threads of one process, so the count is kept
in this process; nothing outlives it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

#: Gives the context in which a member of a group may be away.
Slot = Callable[[str], AbstractContextManager[object]]

_guard = threading.Lock()
_groups: dict[tuple[str, str], threading.BoundedSemaphore] = {}


def slots(cluster: str, at_once: int) -> Slot:
    """Return what bounds how many members of each group are away."""
    return partial(_slot, cluster, at_once)


def _slot(cluster: str, at_once: int, group: str) -> AbstractContextManager[object]:
    with _guard:
        return _groups.setdefault((cluster, group), threading.BoundedSemaphore(max(1, at_once)))
