"""Which worker a task is given to, as Dask chooses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from benchmarks.scaler.pools import FEW
from benchmarks.scaler.tasks import Task, Worker

if TYPE_CHECKING:
    from benchmarks.scaler.model import Model

#: Bytes a second between workers.
NETWORK = 500e6


def choose(model: Model, task: Task) -> Worker | None:
    """Choose a worker for a task that is ready; None when nobody can run it."""
    pool = model.pool(task.needs)
    if not pool.workers:
        return None
    if task.inputs:
        holders = {one.worker for one in task.inputs if one.worker in pool.workers}
        candidates: Iterable[Worker] = [w for w in holders if w] or list(pool.workers)
        return min(
            candidates,
            key=lambda w: (w.occupancy / w.nthreads + missing(task, w), w.nbytes, w.order),
        )
    if not task.needs.resources and len(model.idle) >= FEW:
        return model.idle[task.number % len(model.idle)]
    if len(pool.workers) < FEW:
        return min(pool.workers, key=lambda w: (w.occupancy / w.nthreads, w.nbytes, w.order))
    return pool.least_busy()


def missing(task: Task, worker: Worker) -> float:
    """Seconds to fetch the inputs that a worker lacks."""
    return sum(one.nbytes for one in task.inputs if one.worker is not worker) / NETWORK
