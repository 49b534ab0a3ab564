"""A toy world for the policy: groups, members that start, work that is done. Virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from perennial.observation import Member, Observation
from perennial.scaler.policy import decide, detail_wanted
from perennial.scaler.values import (
    Decisions,
    Demand,
    Group,
    GroupSeen,
    History,
    Load,
    MemberSeen,
    Rules,
    Signature,
    Standing,
    Work,
)

GIB = 2**30
GPU = Signature((("GPU", 1.0),))
FPGA = Signature((("FPGA", 1.0),))
PINNED = Signature((), pinned=True)
ANY = Signature()


def members(group: str, count: int, state: str = "running") -> tuple[Member, ...]:
    """Name the members of a group."""
    names = (f"{group}-{index}" for index in range(count))
    return tuple(Member(name, name, state) for name in names)  # type: ignore[arg-type]


def standing(group: str, running: int, starting: int = 0, **more: object) -> Standing:
    """Describe where a group stands."""
    pieces = list(members(group, running + starting))
    for index in range(running, running + starting):
        pieces[index] = replace(pieces[index], state="starting")
    return Standing(Observation(len(pieces), tuple(pieces)), **more)  # type: ignore[arg-type]


def seen(group: str, count: int, busy: int = 0, idle: float = 1000.0, **more: object) -> GroupSeen:
    """Describe what the scheduler sees of a group; the first members are busy."""
    detail = {
        member.worker: MemberSeen(
            member.worker, processing=int(index < busy), idle=0.0 if index < busy else idle
        )
        for index, member in enumerate(members(group, count))
    }
    values: dict[str, object] = {
        "members": count,
        "busy": busy,
        "limit": count * 4 * GIB,
        "names": tuple(detail),
        "detail": detail,
    }
    return GroupSeen(**(values | more))  # type: ignore[arg-type]


def demand(*work: Work, groups: Mapping[str, GroupSeen] | None = None, **more: object) -> Demand:
    """Describe the scheduler's work."""
    values: dict[str, object] = {"scheduler": "s", "uptime": 10_000.0}
    return Demand(work=work, groups=groups or {}, **(values | more))  # type: ignore[arg-type]


def queued(tasks: int, seconds: float | None, signature: Signature = ANY) -> Work:
    """Describe ready tasks; `seconds` each, None when nobody knows."""
    load = Load(tasks, 0.0, tasks) if seconds is None else Load(tasks, tasks * seconds)
    return Work(signature, unrunnable=load)


@dataclass
class Toy:
    """Members start, tasks of equal length run and end, drains take a tick."""

    groups: tuple[Group, ...]
    start_up: float = 30.0
    interval: float = 5.0
    now: float = 0.0
    history: History = field(default_factory=lambda: History(time=-1.0, clients=1))
    started: dict[str, dict[str, float]] = field(default_factory=dict)  # when each was asked for
    running: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # seconds left
    draining: dict[str, set[str]] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    backlog: list[float] = field(default_factory=list)  # tasks that wait, their seconds
    scheduler: str = "s"
    registered: set[str] = field(default_factory=set)
    number: int = 0
    budget: float | None = None
    decisions: Decisions | None = None

    def __post_init__(self) -> None:
        for group in self.groups:
            self.started[group.name], self.running[group.name] = {}, {}
            self.draining[group.name] = set()

    @property
    def rules(self) -> Rules:
        """The rules."""
        return Rules(self.groups, self.budget)

    def size(self, group: str) -> int:
        """Members that exist and have not been told to leave."""
        return len(self.started[group]) - len(self.draining[group])

    def standings(self) -> dict[str, Standing]:
        """What the platform says."""
        found = {}
        for group, pieces in self.started.items():
            listed = tuple(
                Member(n, n, "running" if n in self.running[group] else "starting") for n in pieces
            )
            parked = {n: not self.running[group].get(n) for n in self.draining[group]}
            found[group] = Standing(Observation(len(listed), listed), parked)
        return found

    def demand(self, detail: tuple[str, ...] = ()) -> Demand:
        """What the scheduler says."""
        groups, processing = {}, {}
        for group, workers in self.running.items():
            there = {n: t for n, t in workers.items() if n in self.registered}
            free = {n: t for n, t in there.items() if n not in self.draining[group]}
            if tasks := [t for tasks in there.values() for t in tasks]:
                processing[group] = Load(len(tasks), sum(tasks))
            members = {
                n: MemberSeen(
                    n,
                    status="running" if n in free else "closing_gracefully",
                    processing=len(t),
                    idle=0.0 if t else self.now - self.idle.get(n, self.now),
                )
                for n, t in there.items()
            }
            groups[group] = GroupSeen(
                members=len(free),
                busy=sum(map(bool, free.values())),
                limit=len(free) * 4 * GIB,
                names=tuple(there),
                detail=members if group in detail else None,
            )
        waiting = Load(len(self.backlog), sum(self.backlog))
        work = (Work(queued=waiting, processing=processing),) if self.backlog or processing else ()
        return Demand(self.scheduler, self.now, work, groups, clients=1)

    def tick(self, silent: str = "") -> Decisions:
        """Let time pass, decide, and do what is decided; somebody may be silent."""
        self._pass()
        standings = self.standings()
        if silent in standings:
            standings[silent] = replace(standings[silent], observation=None)
        wanted = detail_wanted(self.rules, standings, self.history, self.now)
        said = None if silent == "scheduler" else self.demand(wanted)
        self.decisions = decide(self.rules, said, standings, self.history, self.now)
        self.history = self.decisions.history
        for name, decision in self.decisions.groups.items():
            self.draining[name].update(decision.leave)
            for back in decision.back:
                self.draining[name].discard(back)
            pieces = self.started[name]
            if standings[name].observation is None:
                continue
            while self.size(name) < decision.to:
                pieces[f"{name}-{self.number}"] = self.now
                self.number += 1
            unstarted = [n for n in pieces if n not in self.running[name]]
            while self.size(name) > decision.to and unstarted:
                del pieces[unstarted.pop()]
        return self.decisions

    def _pass(self) -> None:
        self.now += self.interval
        for group in self.groups:
            workers = self.running[group.name]
            for name, asked in self.started[group.name].items():
                if name not in workers and self.now - asked >= self.start_up:
                    workers[name] = []
                    self.registered.add(name)
                    self.idle[name] = self.now
            for name in [n for n in self.draining[group.name] if not workers.get(n)]:
                workers.pop(name, None)
                self.started[group.name].pop(name, None)
                self.draining[group.name].discard(name)
            for name, tasks in workers.items():
                if name in self.registered:
                    self._run(group, name, tasks)

    def _run(self, group: Group, name: str, tasks: list[float]) -> None:
        left = self.interval * group.slots
        had = bool(tasks)
        while left > 0:
            while (
                len(tasks) < group.slots and self.backlog and name not in self.draining[group.name]
            ):
                tasks.append(self.backlog.pop())
            if not tasks:
                break
            step = min(left / group.slots, *tasks)
            tasks[:] = [t - step for t in tasks if t - step > 1e-9]
            left -= step * group.slots
            had = True
        if had:
            self.idle[name] = self.now
