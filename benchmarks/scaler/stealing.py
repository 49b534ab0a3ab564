"""Work stealing: workers with nothing to do take what has not begun elsewhere."""

from __future__ import annotations

from collections import deque

from benchmarks.scaler.model import Model
from benchmarks.scaler.placing import missing
from benchmarks.scaler.pools import FEW, Indexed
from benchmarks.scaler.tasks import Task, Worker
from perennial.scaler.values import Signature


def balance(model: Model) -> bool:
    """Let idle workers take tasks from those that have too many; say whether any did."""
    victims = some(model.backlog, model)
    if len(victims) <= FEW:
        victims.sort(key=lambda worker: worker.occupancy, reverse=True)
    thieves = Thieves(model, some(model.idle, model))
    moved = False
    for victim in victims:
        for tasks in (victim.ready, victim.constrained):
            if tasks:
                moved |= _steal(model, victim, tasks, thieves)
    return moved


def some(workers: Indexed, model: Model) -> list[Worker]:
    """Take all workers of few, and some of many."""
    n = len(workers)
    if n <= 4 * FEW:
        return list(workers)
    first = model.random.randrange(n)
    return [workers[(first + i) % n] for i in range(4 * FEW)]


class Thieves:
    """Idle workers, and the best of them for each kind of task."""

    def __init__(self, model: Model, workers: list[Worker]) -> None:
        self.model, self.workers = model, workers
        self._able: dict[Signature, list[Worker]] = {}
        self._best: dict[Signature, Worker | None] = {}

    def best(self, needs: Signature) -> Worker | None:
        """Give the least busy one that can run tasks of a signature."""
        if needs not in self._best:
            there = self._able.get(needs)
            if there is None:
                pool = self.model.pool(needs).workers
                there = self._able[needs] = [worker for worker in self.workers if worker in pool]
            self._best[needs] = min(there, key=_busy, default=None)
        return self._best[needs]

    def given(self, thief: Worker) -> None:
        """Note that one has got a task: it may have enough to do now."""
        self._best.clear()
        if thief not in self.model.idle:
            for each in (self.workers, *self._able.values()):
                if thief in each:
                    each.remove(thief)


def _busy(worker: Worker) -> tuple[float, int, float]:
    return worker.occupancy / worker.nthreads, worker.nbytes, worker.order


def _steal(model: Model, victim: Worker, tasks: deque[Task], thieves: Thieves) -> bool:
    moved = False
    kept: list[Signature] = []  # kinds of which the others are no better
    for task in reversed(list(tasks)):
        thief = None if task.needs in kept else thieves.best(task.needs)
        if thief is None:
            continue
        compute = task.prefix.estimate()
        away, here = missing(task, thief), missing(task, victim)
        if thief.occupancy + away + compute > victim.occupancy - (here + compute) / 2:
            kept.append(task.needs)
            continue
        tasks.remove(task)
        model.move(task, victim, thief)
        moved = True
        thieves.given(thief)
    return moved
