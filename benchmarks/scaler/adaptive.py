"""Dask's own deciding, called unchanged on the model's state: the baseline."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

from distributed import Scheduler
from distributed.deploy.adaptive_core import AdaptiveCore

from benchmarks.scaler.model import Model
from benchmarks.scaler.tasks import Task, Worker
from benchmarks.scaler.world import World


class Queue:
    """The scheduler's queue as Dask's code sees it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __len__(self) -> int:
        return len(self.model.queue)

    def __iter__(self) -> Iterator[Task]:
        return (task for _, task in self.model.queue)


class Unrunnable:
    """What no worker can run, as Dask's code sees it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __len__(self) -> int:
        return sum(map(len, self.model.unrunnable.values()))

    def keys(self) -> Iterator[Task]:
        """Iterate over the tasks."""
        return chain.from_iterable(self.model.unrunnable.values())


class Upstream:
    """What Dask's own methods need of a scheduler; the methods themselves are Dask's."""

    UNKNOWN_TASK_DURATION = 0.5
    adaptive_target = Scheduler.adaptive_target
    workers_to_close = Scheduler.workers_to_close
    _get_prefix_duration = Scheduler._get_prefix_duration

    def __init__(self, model: Model) -> None:
        self.model = model
        self.queued, self.unrunnable = Queue(model), Unrunnable(model)
        self.plugins: Mapping[str, Any] = {}

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Workers by address; a worker that retires is no longer among them."""
        parked = any(tally.parked for tally in self.model.tallies.values())
        workers = self.model.workers
        return {a: w for a, w in workers.items() if w.status == "running"} if parked else workers

    @property
    def total_occupancy(self) -> float:
        """Seconds of work that all workers have been given."""
        return self.model.given.seconds


class Adaptive(AdaptiveCore):  # type: ignore[misc]
    """Dask's `Adaptive` over one kind of worker, with its usual settings.

    Parameters
    ----------
    group : str
        The one group that it knows.
    """

    def __init__(self, group: str, interval: float = 1.0, target_duration: float = 5.0) -> None:
        super().__init__(minimum=0, maximum=1, wait_count=3)
        self.group, self.interval, self.target_duration = group, interval, target_duration

    def start(self, world: World) -> None:
        """Set the first tick."""
        self.world, self.fleet = world, world.fleets[self.group]
        self.minimum, self.maximum = self.fleet.group.min, self.fleet.group.max
        self.upstream = Upstream(world.model)
        first = world.model.random.random() * self.interval
        world.clock.every(self.interval, first, self.tick)

    def tick(self) -> None:
        """Do what its periodic callback does."""
        self.world.model.heartbeat()
        finish(self.adapt())

    @property
    def plan(self) -> set[str]:
        """Workers that shall exist."""
        return set(self.fleet.pieces)

    requested = plan

    @property
    def observed(self) -> set[str]:
        """Workers that have registered."""
        return set(self.upstream.workers)

    async def target(self) -> int:
        """Ask the scheduler."""
        target: int = self.upstream.adaptive_target(target_duration=self.target_duration)
        return target

    async def workers_to_close(self, target: int) -> list[str]:
        """Ask the scheduler."""
        found: list[str] = self.upstream.workers_to_close(target=target, attribute="name")
        return found

    async def scale_up(self, n: int) -> None:
        """Start workers."""
        self.fleet.resize(n)

    async def scale_down(self, workers: list[str]) -> None:
        """Retire workers as Dask does: data moves away, what runs is dropped."""
        model = self.world.model
        for name in sorted(workers):
            piece = self.fleet.pieces.get(name)
            if piece and piece.worker and piece.worker.status == "running":
                model.park(piece.worker, partial(self.fleet.stop, [name]), None)
            elif piece and not piece.worker:
                self.fleet.stop([name])


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waits for something")
