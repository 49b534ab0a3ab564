"""Which members may leave, and the questions of a drain: about the workers that leave alone.

Dask's own answers to these questions list all workers, or every key that one holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

from perennial.preloads.counting import Counts
from perennial.preloads.members import Workers

#: Keys of a worker that are named; a drain needs to know that there are some, and a few names.
NAMES = 1_000


def needed_where_they_are(scheduler: Any, counts: Counts, addresses: Collection[str]) -> set[str]:
    """Say which workers are needed where they are, whatever they run and hold.

    Such are those of a shuffle that goes on, which Dask would begin anew without any one of
    them, and those for which tasks wait that may run there alone.
    """
    asked = [scheduler.workers[at] for at in addresses if at in scheduler.workers]
    free = asked
    for plugin in list(scheduler.plugins.values()) if asked else ():
        if hasattr(plugin, "valid_workers_downscaling"):
            free = plugin.valid_workers_downscaling(scheduler, free)
    let_go = {worker.address for worker in free}
    return {
        worker.address
        for worker in asked
        if worker.address not in let_go or worker.address in counts.binds
    }


def found(workers: Workers, who: Collection[Sequence[str]]) -> list[list[Any]]:
    """Say where the processes of members are, and Dask's word for each."""
    rows: list[list[Any]] = []
    for group, name in who:
        members = workers.groups[group].members if group in workers.groups else {}
        if name in members:
            processes = members[name].processes
            words = {at: str(each.worker.status.name) for at, each in processes.items()}
            rows.append([group, name, words])
    return rows


def left(
    workers: Workers,
    addresses: Collection[str],
    leaving: Collection[str],
    kept: Collection[str] = (),
) -> dict[str, list[Any]]:
    """Say what is left on workers: tasks, how many keys, those that nobody else will have.

    Last comes whether the worker is needed where it is.
    """
    here = workers.processes
    parked = [member for group in workers.groups.values() for member in group.parked]
    gone = {process.worker for member in parked for process in member.processes.values()}
    gone |= {here[at].worker for at in leaving if at in here}
    rows = {}
    for at in addresses:
        if at in here:
            worker = here[at].worker
            alone = (task.key for task in worker.has_what if gone.issuperset(task.who_has))
            tasks = [str(task.key) for task in worker.processing]
            only = [str(key) for key in islice(alone, NAMES)]
            rows[at] = [tasks, len(worker.has_what), only, at in kept]
    return rows
