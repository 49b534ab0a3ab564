"""Let a worker register with its group and member. Given with ``--preload``.

The scheduler has them as ``WorkerState.extra["perennial"]``. Without it the group would have to be
guessed from the worker's name, and a group ``gpu`` beside one ``gpu-large`` makes a bad guess easy.
"""

from __future__ import annotations

from typing import Any

import dask.config


def dask_setup(worker: Any) -> None:
    """Add group and member to the worker's registration."""
    group = dask.config.get("perennial.group", None)
    if group is None:
        return
    member = str(worker.name)
    if dask.config.get("perennial.processes", 1) > 1:
        member = member.rpartition("-")[0] or member  # Dask adds the number of the process
    said = {"group": str(group), "member": member}
    worker.startup_information["perennial"] = lambda worker: said
