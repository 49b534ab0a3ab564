"""Tasks, their prefixes, and workers, with the attributes that Dask's own code looks at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perennial.scaler.values import Signature

if TYPE_CHECKING:
    from benchmarks.scaler.pools import Pool

ANY = Signature()
#: Bytes a second to a worker's disk, and the part of its memory above which it writes there.
DISK, SPILL = 200e6, 0.7


class Prefix:
    """What Dask knows of tasks that run the same function: how long they take."""

    __slots__ = ("duration_average", "max_exec_time", "name", "running")

    def __init__(self, name: str) -> None:
        self.name = name
        self.duration_average = -1.0
        self.max_exec_time = -1.0
        self.running: dict[Task, float] = {}  # since when, the oldest first

    def estimate(self) -> float:
        """Dask's three rules: the average, twice what it has taken so far, half a second."""
        if self.duration_average >= 0:
            return self.duration_average
        return 2 * self.max_exec_time if self.max_exec_time > 0 else 0.5

    def ended(self, seconds: float) -> None:
        """One of them has ended."""
        old = self.duration_average
        self.duration_average = seconds if old < 0 else 0.5 * seconds + 0.5 * old

    def heartbeat(self, now: float) -> None:
        """Workers say how long what they run has run."""
        if self.running:
            seconds = now - next(iter(self.running.values()))
            self.max_exec_time = max(seconds, self.max_exec_time)
            if seconds > 2 * self.duration_average:
                self.duration_average = -1.0


@dataclass(slots=True)
class Request:
    """Tasks that somebody submits together and waits for.

    Parameters
    ----------
    time : float
        When, from the begin of the trace; in a closed loop, how long after the one before.
    tasks : list of Task
        What.
    feasible : bool
        Whether any group can run it.
    """

    time: float
    tasks: list[Task]
    feasible: bool = True
    left: int = 0
    begun: float = 0.0
    ended: float | None = None
    then: Callable[[], None] | None = None


class Task:
    """One task.

    Parameters
    ----------
    prefix : Prefix
        Its function.
    seconds : float
        How long it runs.
    needs : Signature
        What it needs of a worker.
    nbytes : int
        Size of its result, which stays on the worker while somebody needs it.
    inputs : tuple of Task
        Whose results it reads.
    kept : bool
        Whether the user holds its result for ever.
    """

    __slots__ = (
        *("begun", "inputs", "kept", "left", "nbytes", "needs", "number", "prefix", "request"),
        *("runs", "seconds", "siblings", "state", "users", "waits", "worker"),
    )

    def __init__(
        self,
        prefix: Prefix,
        seconds: float,
        needs: Signature = ANY,
        nbytes: int = 0,
        inputs: tuple[Task, ...] = (),
        kept: bool = False,
    ) -> None:
        self.prefix, self.seconds, self.needs, self.nbytes = prefix, seconds, needs, nbytes
        self.inputs, self.kept = inputs, kept
        self.users: list[Task] = []
        for task in inputs:
            task.users.append(self)
        self.request: Request | None = None
        self.number = 0  # its priority
        self.state = "new"
        self.worker: Worker | None = None
        self.begun = 0.0
        self.siblings = 1  # tasks of the same function in its request
        self.runs = 0  # how often it was begun
        self.waits = 0  # inputs that are not there
        self.left = 0  # users that have not ended


@dataclass(slots=True, eq=False)
class Worker:
    """A worker; names follow Dask's `WorkerState`."""

    name: str
    group: str
    nthreads: int
    memory_limit: int
    resources: dict[str, float]
    order: float = 0.0  # equal workers are taken in an order that is arbitrary, but fixed
    status: str = "running"
    nbytes: int = 0
    processing: dict[Task, None] = field(default_factory=dict)
    running: dict[Task, None] = field(default_factory=dict)
    ready: deque[Task] = field(default_factory=deque)
    constrained: deque[Task] = field(default_factory=deque)  # those that need resources
    used: dict[str, float] = field(default_factory=dict)
    held: dict[Task, None] = field(default_factory=dict)
    counts: dict[Prefix, int] = field(default_factory=dict)
    idle: float = 0.0  # since when
    emptied: Callable[[], None] | None = None
    pools: list[Pool] = field(default_factory=list)
    slots: int = 0  # tasks that Dask gives it from its queue
    long_running: tuple[Task, ...] = ()

    @property
    def address(self) -> str:
        """Dask's name for it."""
        return self.name

    @property
    def occupancy(self) -> float:
        """Seconds of work that it has been given."""
        return sum(n * prefix.estimate() for prefix, n in self.counts.items())

    def can(self, needs: Signature) -> bool:
        """Whether it has the resources, used or not."""
        return all(self.resources.get(name, 0) >= much for name, much in needs.resources)

    def next(self) -> Task | None:
        """Take the next task that can begin; only the first that needs resources is looked at."""
        constrained = self.constrained
        if (
            constrained
            and all(
                self.used.get(name, 0.0) + much <= self.resources[name]
                for name, much in constrained[0].needs.resources
            )
            and (not self.ready or constrained[0].number < self.ready[0].number)
        ):
            return constrained.popleft()
        return self.ready.popleft() if self.ready else None


def on_disk(task: Task, worker: Worker) -> float:
    """Seconds that reading inputs from disk and making room for the result take."""
    room = SPILL * worker.memory_limit
    spilled = max(0.0, worker.nbytes - room) / max(worker.nbytes, 1)
    read = spilled * sum(one.nbytes for one in task.inputs if one.worker is worker)
    return (read + min(task.nbytes, max(0.0, worker.nbytes + task.nbytes - room))) / DISK
