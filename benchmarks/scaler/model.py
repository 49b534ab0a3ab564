"""A model of Dask's scheduler and workers in virtual time.

What it keeps of Dask (distributed 2026.8): tasks of a large batch without restrictions wait in
the scheduler's queue and are given to the least busy worker, ``ceil(1.1 × threads)`` at a time;
other tasks are given to a worker at once; tasks with resources pile up on the first worker that
has them; idle workers steal what has not begun, each 100 ms; durations are estimated by Dask's
three rules; a parked worker ends what runs and hands back the rest; a worker that is removed
loses what it runs, and that runs again.

What it leaves out: latency, the scheduler's own time, replicas, priorities other than the order
of submission, workers that crash after their start.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable

from benchmarks.scaler.engine import Clock
from benchmarks.scaler.placing import NETWORK, choose, missing
from benchmarks.scaler.pools import Given, Indexed, Pool, Tally
from benchmarks.scaler.tasks import ANY, SPILL, Prefix, Request, Task, Worker, on_disk
from perennial.scaler.values import Signature

#: Dask's ``distributed.scheduler.worker-saturation``.
SATURATION = 1.1
#: Memory of a worker that holds nothing.
EMPTY = 100_000_000


class Model:
    """Dask's scheduler, and its workers.

    Parameters
    ----------
    clock : Clock
        Virtual time.
    seed : int
        Of the order in which equal workers are taken.
    steal : float
        Seconds between two looks at what may be stolen.
    """

    def __init__(self, clock: Clock, seed: int = 0, steal: float = 0.1) -> None:
        self.clock, self.steal = clock, steal
        self.random = random.Random(seed)
        self.prefixes: dict[str, Prefix] = {}
        self.workers: dict[str, Worker] = {}  # all that have registered, parked ones too
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.pools: dict[Signature, Pool] = {ANY: Pool()}
        self.idle, self.backlog = Indexed(), Indexed()
        self.queue: list[tuple[int, Task]] = []
        self.unrunnable: defaultdict[Signature, dict[Task, float]] = defaultdict(dict)
        self.queued: Counter[tuple[Signature, Prefix]] = Counter()
        self.waiting: Counter[Signature] = Counter()
        self.processing: Counter[tuple[Signature, str, Prefix]] = Counter()
        self.given = Given()
        self.free: Pool = Pool()  # workers that take tasks from the queue
        self.threads = self.tasks = self.moves = 0
        self.ended = self.recomputed = self.lost = 0
        self.useful = self.thrown = 0.0  # seconds of runs that counted, and that did not
        #: Called when tasks find no worker while no others of that kind waited, as our preload is.
        self.short: Callable[[], object] = bool
        self._held = False
        self._balancing = False
        self._fitting: dict[tuple[str, int], list[Pool]] = {}
        self._stuck: list[Worker] = []

    # Tasks

    def submit(self, request: Request) -> None:
        """Take the tasks of a request."""
        for task in request.tasks:
            self.prefixes[task.prefix.name] = task.prefix
        request.begun, request.left = self.clock.now, len(request.tasks)
        batches = Counter(task.prefix for task in request.tasks)
        for task in request.tasks:
            task.request = request
            task.number = self.tasks
            task.siblings = batches[task.prefix]
            task.left = len(task.users)
            task.waits = sum(one.state != "memory" for one in task.inputs)
            self.tasks += 1
        for task in request.tasks:
            if task.waits:
                task.state = "waiting"
                self.waiting[task.needs] += 1
            else:
                self._place(task)
        self._fill()

    def _place(self, task: Task) -> None:
        """Give a task that is ready to a worker, or let it wait."""
        alone = not task.needs.resources and not task.inputs
        if alone and task.siblings > 2 * self.threads:
            task.state = "queued"
            self.queued[task.needs, task.prefix] += 1
            heapq.heappush(self.queue, (task.number, task))
            return
        worker = choose(self, task)
        if worker is None:
            task.state = "no-worker"
            self.unrunnable[task.needs][task] = self.clock.now
            if len(self.unrunnable[task.needs]) == 1:
                self.short()
        else:
            self._give(task, worker)

    def pool(self, needs: Signature) -> Pool:
        """Find the workers that can run tasks of a signature."""
        pool = self.pools.get(needs)
        if pool is None:
            pool = self.pools[needs] = Pool()
            for worker in self.workers.values():
                if worker.status == "running" and worker.can(needs):
                    pool.workers[worker] = None
                    worker.pools.append(pool)
                    pool.push(worker)
        return pool

    def _fill(self) -> None:
        """Give tasks of the queue to workers that have room."""
        while self.queue and (worker := self.free.least_busy()):
            _, task = heapq.heappop(self.queue)
            self.queued[task.needs, task.prefix] -= 1
            self._give(task, worker)
        held, self._held = self._held, bool(self.queue)
        if self._held and not held:
            self.short()

    def _give(self, task: Task, worker: Worker) -> None:
        task.state, task.worker = "processing", worker
        worker.processing[task] = None
        self._count(task, worker, 1)
        (worker.constrained if task.needs.resources else worker.ready).append(task)
        if len(worker.processing) == 1:
            del self.tallies[worker.group].idle[worker]
        self._changed(worker)
        self._begin(worker)

    def _take(self, task: Task, worker: Worker) -> None:
        """Undo `_give`."""
        del worker.processing[task]
        self._count(task, worker, -1)
        if task in worker.running:
            del worker.running[task]
            del task.prefix.running[task]
            for name, much in task.needs.resources:
                worker.used[name] -= much
        if not worker.processing:
            worker.idle = self.clock.now
            self.tallies[worker.group].idle[worker] = None
        self._changed(worker)

    def _changed(self, worker: Worker) -> None:
        """Note that a worker has more or fewer tasks."""
        n, running = len(worker.processing), worker.status == "running"
        self.tallies[worker.group].changed[worker] = None
        idle = running and (n < worker.nthreads or self._light(worker))
        self.idle.put(worker, idle)
        self.backlog.put(worker, running and n > worker.nthreads and not idle)
        if running:
            for pool in worker.pools:
                pool.push(worker)
            if n < worker.slots:
                self.free.workers[worker] = None
                self.free.push(worker)
            else:
                self.free.workers.pop(worker, None)
        if not self._balancing and len(self.idle) and len(self.backlog):
            self._balancing = True
            self.clock.at((self.clock.now // self.steal + 1) * self.steal, self._balance)

    def _light(self, worker: Worker) -> bool:
        """Whether a worker has less than half of the work that the mean one has."""
        return worker.occupancy < worker.nthreads * self.given.seconds / self.threads / 2

    def _count(self, task: Task, worker: Worker, more: int) -> None:
        """Count a task that a worker has been given, or that has been taken from it."""
        worker.counts[task.prefix] = worker.counts.get(task.prefix, 0) + more
        self.processing[task.needs, worker.group, task.prefix] += more
        self.given.count(task.prefix, more)

    def heartbeat(self) -> None:
        """Workers say how long what they run has run."""
        for prefix in self.prefixes.values():
            prefix.heartbeat(self.clock.now)
            self.given.count(prefix, 0)

    # Workers run tasks

    def _begin(self, worker: Worker) -> None:
        now = self.clock.now
        while len(worker.running) < worker.nthreads:
            task = worker.next()
            if task is None:
                return
            for name, much in task.needs.resources:
                worker.used[name] = worker.used.get(name, 0.0) + much
            worker.running[task] = None
            task.prefix.running[task] = task.begun = now
            task.runs += 1
            seconds = task.seconds
            if task.nbytes or task.inputs:
                seconds += missing(task, worker) + on_disk(task, worker)
            self.clock.after(seconds, self._ended, task, worker, task.runs)

    def _ended(self, task: Task, worker: Worker, run: int) -> None:
        if task.worker is not worker or task.runs != run or task.state != "processing":
            return  # it was taken away meanwhile
        self._take(task, worker)
        task.prefix.ended(task.seconds)
        self.given.count(task.prefix, 0)
        task.state = "memory"
        self.ended += 1
        self.useful += task.seconds
        if task.left or task.kept:
            worker.held[task] = None
            self._data(worker, task.nbytes)
        for one in task.inputs:
            one.left -= 1
            if not one.left and not one.kept and one.worker and one in one.worker.held:
                del one.worker.held[one]
                self._data(one.worker, -one.nbytes)
        for user in task.users:
            user.waits -= 1
            if user.state == "waiting" and not user.waits:
                self.waiting[user.needs] -= 1
                self._place(user)
        request = task.request
        assert request
        request.left -= 1
        if not request.left and request.ended is None:
            request.ended = self.clock.now
            if request.then:
                request.then()
        self._begin(worker)
        self._fill()
        if worker.status != "running" and not worker.processing:
            self._empty(worker)

    def _data(self, worker: Worker, nbytes: int) -> None:
        """Note that a worker holds more or less."""
        tally, room = self.tallies[worker.group], int(SPILL * worker.memory_limit)
        tally.changed[worker] = None
        tally.spilled -= max(0, worker.nbytes - room)
        worker.nbytes += nbytes
        tally.nbytes += nbytes
        tally.spilled += max(0, worker.nbytes - room)

    # Workers come and go

    def join(self, worker: Worker) -> None:
        """Register a worker."""
        worker.slots = max(math.ceil(SATURATION * worker.nthreads), 1)
        worker.order, worker.idle = self.random.random(), self.clock.now
        self.workers[worker.name] = worker
        tally = self.tallies[worker.group]
        tally.workers[worker.name] = worker
        tally.idle[worker] = None
        tally.limit += worker.memory_limit
        tally.slots += worker.nthreads
        tally.version += 1
        self.threads += worker.nthreads
        self._admit(worker)
        for stuck in list(self._stuck):
            self._empty(stuck)

    def _admit(self, worker: Worker) -> None:
        """Give a worker what waits for one like it."""
        kind = (worker.group, len(self.pools))
        fitting = self._fitting.get(kind)
        if fitting is None:  # all workers of a group have the same resources
            fitting = [pool for needs, pool in self.pools.items() if worker.can(needs)]
            self._fitting[kind] = fitting
        for pool in fitting:
            pool.workers[worker] = None
            worker.pools.append(pool)
        self._changed(worker)
        for needs, tasks in self.unrunnable.items():
            if tasks and worker.can(needs):
                waiting = sorted(tasks, key=lambda task: task.number)
                tasks.clear()
                for task in waiting:
                    self._place(task)
        self._fill()

    def unpark(self, worker: Worker) -> None:
        """Let a parked worker begin tasks again."""
        if worker.status == "closing_gracefully":
            worker.status, worker.emptied = "running", None
            del self.tallies[worker.group].parked[worker]
            if worker in self._stuck:
                self._stuck.remove(worker)
            self._admit(worker)

    def park(self, worker: Worker, emptied: Callable[[], None], patience: float | None) -> None:
        """Give a worker no more tasks, and say when it runs and holds nothing.

        With a patience it is waited for what runs, and at least so long; without, what it holds
        moves away, or is left behind when nobody can take it.
        """
        worker.status, worker.emptied = "closing_gracefully", emptied
        self.tallies[worker.group].parked[worker] = None
        self._withdraw(worker)
        for task in [task for task in worker.processing if task not in worker.running]:
            self._take(task, worker)
            self._place(task)
        worker.ready.clear()
        worker.constrained.clear()
        self._fill()
        if patience is None:
            seconds = worker.nbytes / NETWORK if self.pools[ANY].workers else 0.0
            self.clock.after(seconds, self._moved, worker, True)
        else:
            self.clock.after(patience, self._empty, worker)

    def _withdraw(self, worker: Worker) -> None:
        for pool in [*worker.pools, self.free]:
            pool.workers.pop(worker, None)
        worker.pools.clear()
        self.idle.put(worker, False)
        self.backlog.put(worker, False)
        self.tallies[worker.group].changed[worker] = None

    def _empty(self, worker: Worker) -> None:
        """Move what a parked worker holds once nothing runs, if somebody can take it."""
        if worker.processing or not worker.emptied:
            return
        if worker in self._stuck:
            self._stuck.remove(worker)
        self.clock.after(worker.nbytes / NETWORK, self._moved, worker, False)

    def _moved(self, worker: Worker, must: bool) -> None:
        takers = self.pools[ANY].workers
        if worker.held and not takers and not must:
            self._stuck.append(worker)
            return
        for task in list(worker.held) if takers else ():
            task.worker = taker = min(takers, key=lambda w: (w.nbytes, w.order))
            taker.held[task] = None
            self._data(taker, task.nbytes)
            self._data(worker, -task.nbytes)
            del worker.held[task]
        emptied, worker.emptied = worker.emptied, None
        if emptied:
            emptied()

    def leave(self, worker: Worker) -> None:
        """Remove a worker with all that it runs and holds."""
        tally = self.tallies[worker.group]
        del self.workers[worker.name], tally.workers[worker.name]
        tally.parked.pop(worker, None)
        tally.limit -= worker.memory_limit
        tally.slots -= worker.nthreads
        tally.version += 1
        self.threads -= worker.nthreads
        worker.status = "closed"
        self._withdraw(worker)
        if worker in self._stuck:
            self._stuck.remove(worker)
        for task in list(worker.processing):
            if task in worker.running:
                self.recomputed += 1
                self.thrown += self.clock.now - task.begun
            self._take(task, worker)
            task.worker = None
            self._place(task)
        del tally.idle[worker]
        for task in list(worker.held):
            self._data(worker, -task.nbytes)
            task.worker = None
            if task.prefix.name == "scatter":
                self.lost += 1
            else:  # those who read it do not wait for it here: a small kindness to whoever lost it
                self.recomputed += 1
                self._place(task)
        self._fill()

    # Stealing

    def _balance(self) -> None:
        from benchmarks.scaler.stealing import balance

        self._balancing = False
        again = len(self.idle) and len(self.backlog) and balance(self)
        if again and not self._balancing and len(self.idle) and len(self.backlog):
            self._balancing = True
            self.clock.after(self.steal, self._balance)

    def move(self, task: Task, victim: Worker, thief: Worker) -> None:
        """Give a task that has not begun to another worker."""
        self._take(task, victim)
        self._give(task, thief)
        self.moves += 1
