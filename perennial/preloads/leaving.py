"""Tell a drain what it asks again and again: of the workers that leave, and of no others.

Dask's own answers to these questions list all workers, or every key that one holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

from perennial.preloads.members import Workers

#: Keys of a worker that are named; a drain needs to know that there are some, and a few names.
NAMES = 1_000


def found(workers: Workers, who: Collection[Sequence[str]]) -> list[list[Any]]:
    """Say where the processes of members are, and Dask's word for each.

    Parameters
    ----------
    workers : Workers
        The scheduler's workers.
    who : collection of (str, str)
        Group and name of each member.
    """
    rows: list[list[Any]] = []
    for group, name in who:
        members = workers.groups[group].members if group in workers.groups else {}
        if name in members:
            processes = members[name].processes
            words = {at: str(each.worker.status.name) for at, each in processes.items()}
            rows.append([group, name, words])
    return rows


def left(
    workers: Workers, addresses: Collection[str], leaving: Collection[str]
) -> dict[str, list[Any]]:
    """Say what is left on workers: tasks, how many keys, and those that nobody else will have.

    Parameters
    ----------
    workers : Workers
        The scheduler's workers.
    addresses : collection of str
        Whom it is asked of; those that are gone are left out.
    leaving : collection of str
        All that are going to leave. Parked ones are too, whoever has parked them.
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
            rows[at] = [tasks, len(worker.has_what), [str(key) for key in islice(alone, NAMES)]]
    return rows
