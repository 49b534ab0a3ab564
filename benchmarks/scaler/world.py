"""One run: a trace, a platform, a scheduler, and somebody who decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.scaler.engine import Clock
from benchmarks.scaler.fleet import Platform, SimulatedFleet
from benchmarks.scaler.model import Model
from benchmarks.scaler.tasks import Request
from perennial.scaler.values import Rules


@dataclass(slots=True)
class Trace:
    """Work that comes, and the groups that may run it.

    Parameters
    ----------
    name : str
        Name.
    rules : Rules
        The groups.
    requests : list of Request
        What comes whatever happens, by time.
    rounds : list of Request
        What comes one after another: each so long after the one before has ended.
    sample : float
        Seconds between two looks at demand and supply, from 0 until nothing more is paid.
    limit : float
        When a run that does not end is cut off.
    """

    name: str
    rules: Rules
    requests: list[Request] = field(default_factory=list)
    rounds: list[Request] = field(default_factory=list)
    sample: float = 0.5
    limit: float = 7200.0

    @property
    def everything(self) -> list[Request]:
        """All requests."""
        return [*self.requests, *self.rounds]


@dataclass(frozen=True, slots=True)
class Sample:
    """Slots of a group at one time: what ready work could use, what is asked for, what is there."""

    time: float
    demand: int
    asked: int
    there: int


class Decider(Protocol):
    """Sizes the fleets of a world."""

    def start(self, world: World) -> None:
        """Set the first event."""
        ...


class World:
    """All that happens in one run.

    Parameters
    ----------
    trace : Trace
        What comes. A trace is used up by its run.
    platform : Platform
        How members start.
    seed : int
        Of chance.
    steal : float
        Seconds between two looks at what may be stolen.
    """

    def __init__(self, trace: Trace, platform: Platform, seed: int = 0, steal: float = 0.1) -> None:
        self.trace, self.platform, self.seed = trace, platform, seed
        self.clock = Clock()
        self.model = Model(self.clock, seed, steal)
        self.fleets = {
            group.name: SimulatedFleet(self.model, group, platform, seed)
            for group in trace.rules.groups
        }
        self.samples: dict[str, list[Sample]] = {name: [] for name in self.fleets}
        self._left = sum(request.feasible for request in trace.everything)
        self.end: float | None = None  # when the last feasible request has ended
        self.served_at_end = 0.0  # seconds that members had been there by then
        self._rounds = iter(trace.rounds)

    @property
    def tail(self) -> float:
        """Seconds for which members are still paid for after the last request has ended."""
        return 60 + 2 * self.platform.start_up

    def run(self, decider: Decider) -> None:
        """Let it happen."""
        for request in self.trace.requests:
            self.clock.at(request.time, self._submit, request, self._ended)
        self._round()
        decider.start(self)
        self.clock.every(self.trace.sample, 0.0, self._sample)
        self.clock.run(self._until)

    def _until(self) -> float:
        return self.trace.limit if self.end is None else self.end + self.tail

    def _submit(self, request: Request, then: Callable[[], None]) -> None:
        request.then = then if request.feasible else None
        self.model.submit(request)

    def _ended(self) -> None:
        self._left -= 1
        if not self._left:
            self.end = self.clock.now
            self.served_at_end = sum(fleet.bill()[1] for fleet in self.fleets.values())

    def _round(self) -> None:
        request = next(self._rounds, None)
        if request:
            self.clock.after(request.time, self._submit, request, self._round_ended)

    def _round_ended(self) -> None:
        self._round()
        self._ended()

    def _sample(self) -> None:
        ready = self._ready()
        for group in self.trace.rules.groups:
            fleet, tally = self.fleets[group.name], self.model.tallies[group.name]
            demand = min(ready[group.name], group.max * group.slots)
            asked = len(fleet.pieces) * group.slots
            self.samples[group.name].append(Sample(self.clock.now, demand, asked, tally.slots))

    def _ready(self) -> dict[str, int]:
        """Tasks that are ready or run, each at the cheapest group that can run it."""
        model, counts = self.model, dict.fromkeys(self.fleets, 0)
        tasks: dict[tuple[tuple[str, float], ...], int] = {}
        states = [(key[0], n) for key, n in model.queued.items()]
        states += [(key[0], n) for key, n in model.processing.items()]
        for needs, n in states:
            tasks[needs.resources] = tasks.get(needs.resources, 0) + n
        for needs, lost in model.unrunnable.items():
            tasks[needs.resources] = tasks.get(needs.resources, 0) + len(lost)
        groups = sorted(self.trace.rules.groups, key=lambda group: group.cost)
        for resources, n in tasks.items():
            for group in groups:
                if all(group.resources.get(name, 0) >= much for name, much in resources):
                    counts[group.name] += n
                    break
        return counts
