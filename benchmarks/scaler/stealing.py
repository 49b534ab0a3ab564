"""Work stealing: workers with nothing to do take what has not begun elsewhere."""

from __future__ import annotations

from collections import deque

from benchmarks.scaler.model import Model
from benchmarks.scaler.pools import FEW, Indexed
from benchmarks.scaler.tasks import Task, Worker
from perennial.scaler.values import Signature


def balance(model: Model) -> bool:
    """Let idle workers take tasks from those that have too many; say whether any did."""
    victims = some(model.backlog, model)
    if len(victims) <= FEW:
        victims.sort(key=lambda worker: worker.occupancy, reverse=True)
    thieves = some(model.idle, model)
    moved = False
    for victim in victims:
        for tasks in (victim.ready, victim.constrained):
            moved |= _steal(model, victim, tasks, thieves)
    return moved


def some(workers: Indexed, model: Model) -> list[Worker]:
    """Take all workers of few, and some of many."""
    n = len(workers)
    if n <= 4 * FEW:
        return list(workers)
    first = model.random.randrange(n)
    return [workers[(first + i) % n] for i in range(4 * FEW)]


def _steal(model: Model, victim: Worker, tasks: deque[Task], thieves: list[Worker]) -> bool:
    moved = False
    able: dict[Signature, list[Worker]] = {}
    for task in reversed(list(tasks)):
        there = able.get(task.needs)
        if there is None:
            pool = model.pool(task.needs).workers
            there = able[task.needs] = [worker for worker in thieves if worker in pool]
        if not there:
            continue
        thief = min(there, key=lambda w: (w.occupancy / w.nthreads, w.nbytes, w.order))
        compute = task.prefix.estimate()
        away, here = model.missing(task, thief), model.missing(task, victim)
        if thief.occupancy + away + compute > victim.occupancy - (here + compute) / 2:
            there.clear()  # the others of its kind are no better
            continue
        tasks.remove(task)
        model.move(task, victim, thief)
        moved = True
        if thief not in model.idle:
            for others in [thieves, *able.values()]:
                if thief in others:
                    others.remove(thief)
    return moved
