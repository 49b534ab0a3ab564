"""Functions that a drain runs elsewhere: in the worker, in its nanny, in the scheduler.

Each travels by name, so that it runs with what its own process has loaded.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import dask.config
from distributed.core import Status
from distributed.worker_state_machine import CancelComputeEvent

#: Name of the scheduler's plugin that knows which waiting tasks are bound to one worker.
DEMAND = "perennial-demand"


async def park(patience: float, dask_worker: Any) -> list[str]:
    """In the worker: begin no more tasks, and wait until one of those that run has ended."""
    if dask_worker.status in (Status.running, Status.paused):
        dask_worker.status = Status.closing_gracefully
    for task in list(dask_worker.state.tasks.values()):
        if task.state in ("ready", "constrained", "waiting") and not task.dependents:
            # A parked worker does not begin it, and Dask would leave it here until the end.
            stimulus = f"perennial-park-{task.key}"
            dask_worker.handle_stimulus(CancelComputeEvent(key=task.key, stimulus_id=stimulus))
            dask_worker.batched_send({"op": "reschedule", "key": task.key, "stimulus_id": stimulus})
    before = running = _running(dask_worker)
    end = monotonic() + patience
    while running and len(running) >= len(before) and monotonic() < end:
        await asyncio.sleep(0.05)
        running = _running(dask_worker)
    return running


def unpark(dask_worker: Any) -> str:
    """In the worker: begin tasks again, as after a retirement that Dask itself gives up."""
    if dask_worker.status == Status.closing_gracefully:
        dask_worker.status = Status.running
    return str(dask_worker.status.name)


def actors(dask_worker: Any) -> list[str]:
    """In the worker: name the actors that live there, which nobody can move."""
    return sorted(map(str, dask_worker.state.actors))


def hasten(seconds: float | None) -> None:
    """In the nanny: wait no longer than this when the worker is told to stop."""
    usual = dask.config.get("perennial.drain-usual", dask.config.get("perennial.drain", 60))
    chosen = usual if seconds is None else seconds
    dask.config.set({"perennial.drain-usual": usual, "perennial.drain": chosen})


def _running(worker: Any) -> list[str]:
    """Keys of the tasks that run; not of those that were cancelled and only hold a thread."""
    tasks = worker.state.all_running_tasks
    return sorted(str(task.key) for task in tasks if task.state in ("executing", "long-running"))


async def needed(address: str, patience: float, dask_scheduler: Any) -> str:
    """In the scheduler: say why a worker must begin tasks still; empty when it can be parked.

    Waits so many seconds for the latter.
    """
    end = monotonic() + patience
    while (reason := _needed(address, dask_scheduler)) and monotonic() < end:
        await asyncio.sleep(0.1)
    return reason


def _needed(address: str, scheduler: Any) -> str:
    """Say why a worker must begin tasks still.

    When a worker leaves in the middle of a P2P shuffle, Dask begins the whole of it anew; and the
    shuffle's last tasks may run on that worker alone. Plugins are asked as Dask asks them before
    it retires workers.
    """
    worker = scheduler.workers.get(address)
    if worker is None:
        return ""
    free = [worker]
    for plugin in list(scheduler.plugins.values()):
        if hasattr(plugin, "valid_workers_downscaling"):
            free = plugin.valid_workers_downscaling(scheduler, free)
    if not free:
        return "a shuffle that goes on there"
    counts = getattr(scheduler.plugins.get(DEMAND), "counts", None)
    waiting = counts.binds.get(address, 0) if counts is not None else 0
    bound = waiting or any(
        task.worker_restrictions == {address} and not task.loose_restrictions
        for task in worker.processing
    )
    return "tasks that may run nowhere else" if bound else ""
