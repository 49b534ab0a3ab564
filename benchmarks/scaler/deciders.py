"""Who decides: our policy, nobody, or somebody who knows the future; `adaptive` has Dask's own."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.scaler.fleet import SimulatedFleet
from benchmarks.scaler.seen import Reader
from benchmarks.scaler.tasks import Worker
from benchmarks.scaler.world import World
from perennial.observation import Member
from perennial.scaler.timing import SOONEST
from perennial.scaler.values import (
    Decision,
    Decisions,
    History,
    Standing,
)

#: Seconds that the drain of an idle member takes at least: the median of those of `--reality`.
DRAIN = 0.2
#: Seconds between two ticks of the scaler: the product's default.
INTERVAL = 1.0


class Ours:
    """The scaler's policy, called as its loop calls it: each interval, and early on news.

    Parameters
    ----------
    decide : callable
        `perennial.scaler.policy.decide`.
    detail : callable
        `perennial.scaler.policy.detail_wanted`.
    interval : float
        Seconds between two ticks.
    """

    def __init__(
        self,
        decide: Callable[..., Decisions],
        detail: Callable[..., tuple[str, ...]],
        interval: float = INTERVAL,
    ) -> None:
        self.decide, self.detail, self.interval = decide, detail, interval
        self.history = History()
        self.draining: defaultdict[str, dict[str, Worker]] = defaultdict(dict)
        self.seconds: list[float] = []  # of a processor, that each tick's policy took
        self.log: list[tuple[float, Decision]] = []  # those that changed something
        self.first: float | None = None  # when the first tick comes; None for by lot
        self._begun, self._due = 0.0, math.inf

    def start(self, world: World) -> None:
        """Set the first tick, at a time that has nothing to do with that of the work."""
        self.world, self.reader = world, Reader(world.model)
        world.model.short = self._wake
        first = world.model.random.random() * self.interval if self.first is None else self.first
        self._begun = first - self.interval
        self._set(first)

    def _set(self, due: float) -> None:
        """Set the next tick; one that was set for later does not come."""
        if due < self._due:
            self._due = due
            self.world.clock.at(due, self._come, due)

    def _wake(self) -> None:
        """Have the next tick come early, as `perennial.scaler.loop` does when there is news."""
        self._set(max(self.world.clock.now, self._begun + SOONEST * self.interval))

    def _come(self, due: float) -> None:
        if due == self._due:
            self._begun, self._due = due, math.inf
            self._set(due + self.interval)
            self.tick()

    def tick(self) -> None:
        """Look, decide, act."""
        world, now = self.world, self.world.clock.now
        standings = {name: self._standing(fleet) for name, fleet in world.fleets.items()}
        begun = time.process_time()
        wanted = self.detail(world.trace.rules, standings, self.history, now)
        read = time.process_time()
        demand = self.reader.read(wanted)
        read = time.process_time() - read
        decisions = self.decide(world.trace.rules, demand, standings, self.history, now)
        self.seconds.append(time.process_time() - begun - read)
        self.history = decisions.history
        for decision in decisions.groups.values():
            self._act(decision)

    def _standing(self, fleet: SimulatedFleet) -> Standing:
        draining = self.draining[fleet.group.name]
        return Standing(fleet.observe(), dict.fromkeys(draining, True))

    def _act(self, decision: Decision) -> None:
        fleet, draining = self.world.fleets[decision.group], self.draining[decision.group]
        for name in decision.back:
            if name in draining:
                self.world.model.unpark(draining.pop(name))
        for name in decision.leave:
            worker = fleet.pieces[name].worker
            if worker and name not in draining:
                draining[name] = worker
                self.world.model.park(worker, partial(self._gone, fleet, name), DRAIN)
        size = decision.to + len(draining)
        if size != len(fleet.pieces) or decision.leave or decision.back:
            self.log.append((self.world.clock.now, decision))
        if size != len(fleet.pieces):
            fleet.resize(size)

    def _gone(self, fleet: SimulatedFleet, name: str) -> None:
        self.draining[fleet.group.name].pop(name)
        fleet.resize(len(fleet.pieces) - 1, [Member(name, name, "running")])


class Fixed:
    """All groups at their maximum, from the begin to the end."""

    def start(self, world: World) -> None:
        """Ask for everything."""
        for fleet in world.fleets.values():
            fleet.resize(fleet.group.max)


class Replayed:
    """What the clairvoyant planned, carried out in Dask's world.

    Parameters
    ----------
    members : mapping of str to list
        When each member is asked for and stopped, by group.
    """

    def __init__(self, members: Mapping[str, list[tuple[float, float]]]) -> None:
        self.members = members

    def start(self, world: World) -> None:
        """Set all events."""
        for name, spans in self.members.items():
            fleet = world.fleets[name]
            for begin, end in spans:
                world.clock.at(max(0.0, begin), self._more, fleet)
                world.clock.at(end + 1e-3, self._fewer, world, fleet)

    def _more(self, fleet: SimulatedFleet) -> None:
        fleet.resize(len(fleet.pieces) + 1)

    def _fewer(self, world: World, fleet: SimulatedFleet) -> None:
        there = [p.worker for p in fleet.pieces.values() if p.worker]
        there = [worker for worker in there if worker.status == "running"]
        done = [worker for worker in there if not worker.processing]
        if len(there) == 1 and any(world.model.waiting.values()):
            done = []
        if done:  # in Dask's world all takes a little longer than was planned
            gone = min(done, key=lambda worker: worker.nbytes)
            world.model.park(gone, lambda: fleet.stop([gone.name]), 0.0)
        else:
            world.clock.after(0.5, self._fewer, world, fleet)
