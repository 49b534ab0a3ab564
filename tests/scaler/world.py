"""A small world for the loop: a platform and a scheduler in memory, both of which tell no lies.

The scaler's life can be ended before and after each thing that it does to this world: what
follows is as after SIGKILL at that instant, and the next scaler finds the world as it was left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from perennial.observation import Member, Observation
from perennial.platforms.memory import MemoryFleet, MemoryHandle, Timing
from perennial.scaler.acting import Actor
from perennial.scaler.demand import SchedulerAway
from perennial.scaler.drain import Drains
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.intents import Intents
from perennial.scaler.loop import Loop
from perennial.scaler.overrides import Overrides
from perennial.scaler.settings import GroupSettings, Settings
from perennial.scaler.state import SavedState
from perennial.scaler.values import (
    Demand,
    Group,
    GroupSeen,
    Load,
    MemberSeen,
    Signature,
    Work,
)
from perennial.scaler.workers import PARKED, RUNNING, Found, Left


class Killed(BaseException):
    """SIGKILL."""


class Life:
    """How much a scaler can still do."""

    def __init__(self, left: float = float("inf")) -> None:
        self.left = left
        self.spent = 0

    def touch(self) -> None:
        self.spent += 1
        self.left -= 1
        if self.left < 0:
            raise Killed


class World:
    """A group `cpu` whose members register at once; tasks end and data moves in no time."""

    def __init__(self, size: int, start_up: float = 0.0) -> None:
        self.platform = MemoryFleet(
            "cpu", size, timing=Timing(start_up=lambda _: start_up, stop=0.03)
        )
        self.status: dict[str, str] = {}
        self.tasks: dict[str, dict[str, float]] = {}
        self.data: dict[str, set[str]] = {}
        self.actors: set[str] = set()
        self.wishes: list[dict[str, Any]] = []
        self.scheduler = "first"
        self.away = False
        self.uptime = 1000.0
        self.ready = 0
        self.lost: list[str] = []
        self.removed: list[str] = []
        self.reports: list[Mapping[str, Any]] = []
        self.hastened: set[str] = set()
        self.kept: set[str] = set()
        self.hung: set[str] = set()
        self.silent: set[str] = set()
        self.news = False
        self.reads: list[float] = []

    def look(self) -> None:
        """Let the workers register and leave, and tasks end."""
        members = self.platform.observe().members
        running = {each.worker for each in members if each.state == "running"} - self.silent
        for name in running - self.status.keys():
            self.status[name] = RUNNING
        for name in self.status.keys() - running:
            del self.status[name]
            self.tasks.pop(name, None)
            self.data.pop(name, None)
        now = time.monotonic()
        for name, tasks in self.tasks.items():
            for key in [key for key, end in tasks.items() if end <= now]:
                del tasks[key]
                self.data.setdefault(name, set()).add(key)

    def wish(self, **wish: Any) -> None:
        self.wishes.append({"id": f"wish-{len(self.wishes)}-{time.monotonic()}", **wish})

    def unique(self, name: str) -> set[str]:
        """Keys that no running worker but this one holds."""
        others = [self.data.get(n, set()) for n in self.status if n != name]
        return self.data.get(name, set()).difference(*others)


class WorldFleet:
    """The platform, for one life of a scaler; it knows what is lost with a member."""

    chooses = True

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life

    def observe(self) -> Observation:
        self.life.touch()
        self.world.look()
        return self.world.platform.observe()

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        self.life.touch()
        world = self.world
        world.look()
        for member in leaving:
            if member.worker in world.status:
                world.lost += sorted(world.tasks.get(member.worker, {}))
                world.lost += sorted(world.unique(member.worker))
                world.removed.append(member.worker)
        held = world.platform.resize(to, leaving)
        world.look()
        self.life.touch()
        return held


class WorldWorkers:
    """The scheduler, for drains."""

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life

    def _look(self) -> None:
        self.life.touch()
        if self.world.away:
            raise OSError("away")
        self.world.look()

    async def find(self, who: Collection[tuple[str, str]]) -> dict[tuple[str, str], Found]:
        self._look()
        status = self.world.status
        known = [("cpu", name) for name in status if ("cpu", name) in who]
        return {(group, name): Found({f"at-{name}": status[name]}) for group, name in known}

    async def park(self, addresses: Collection[str]) -> dict[str, list[str]]:
        self._look()
        found = {}
        for at in addresses:
            name = at.removeprefix("at-")
            if name in self.world.hung:
                await asyncio.sleep(0.2)
            elif name in self.world.status:
                self.world.status[name] = PARKED
                found[at] = sorted(self.world.tasks.get(name, {}))
        self.life.touch()
        return found

    async def unpark(self, addresses: Collection[str]) -> None:
        self._look()
        for at in addresses:
            if at.removeprefix("at-") in self.world.status:
                self.world.status[at.removeprefix("at-")] = RUNNING
        self.life.touch()

    async def move(self, addresses: Collection[str]) -> frozenset[str]:
        self._look()
        takers = [name for name, word in self.world.status.items() if word == RUNNING]
        moved = set()
        for at in addresses:
            name = at.removeprefix("at-")
            if name in self.world.actors or (self.world.unique(name) and not takers):
                continue
            if takers:
                self.world.data.setdefault(takers[0], set()).update(self.world.unique(name))
                self.world.data[name] = set()
            moved.add(at)
        self.life.touch()
        return frozenset(moved)

    async def left(self, addresses: Collection[str], leaving: Collection[str]) -> dict[str, Left]:
        self._look()
        free = {f"at-{name}" for name, word in self.world.status.items() if word != PARKED}
        staying = free.difference(leaving)
        found = {}
        for at in addresses:
            name = at.removeprefix("at-")
            if name in self.world.status:
                tasks = tuple(sorted(self.world.tasks.get(name, {})))
                data = self.world.data.get(name, set())
                stay = [self.world.data.get(s.removeprefix("at-"), set()) for s in staying]
                only = tuple(sorted(data.difference(*stay)))
                found[at] = Left(tasks, len(data), only, name in self.world.kept)
        return found

    async def hasten(self, addresses: Collection[str], seconds: float | None) -> None:
        self._look()
        if seconds is None:
            self.world.hastened -= set(addresses)
        else:
            self.world.hastened |= set(addresses)

    async def close(self) -> None:
        pass


class WorldSource:
    """The scheduler, for demand."""

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life

    async def read(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
    ) -> tuple[Demand, list[dict[str, Any]]]:
        self.life.touch()
        world = self.world
        world.reads.append(time.monotonic())
        if world.away:
            raise SchedulerAway("scheduler at memory: does not answer; asks again")
        world.look()
        world.wishes = [each for each in world.wishes if each["id"] not in acknowledged]
        if report:
            world.reports.append(report)
        free = [name for name, word in world.status.items() if word != PARKED]
        busy = [name for name in free if world.tasks.get(name)]
        members = {name: self._member(name) for name in world.status}
        seen = GroupSeen(
            members=len(free),
            busy=len(busy),
            memory=2**20 * len(free),
            limit=2**30 * len(free),
            nbytes=sum(map(len, world.data.values())),
            names=tuple(world.status),
            detail=members if "cpu" in detail else None,
        )
        queued = Load(world.ready, world.ready * 10.0)
        running = sum(map(len, world.tasks.values()))
        work = Work(Signature(), queued=queued, processing={"cpu": Load(running, running * 1.0)})
        demand = Demand(world.scheduler, world.uptime, (work,), {"cpu": seen})
        return demand, [dict(each) for each in world.wishes]

    def _member(self, name: str) -> MemberSeen:
        world = self.world
        tasks = len(world.tasks.get(name, {}))
        return MemberSeen(
            worker=name,
            status=world.status[name],
            processing=tasks,
            actors=int(name in world.actors),
            idle=0.0 if tasks else 100.0,
            nbytes=len(world.data.get(name, ())),
            unique=len(world.unique(name)),
            needed=name in world.kept,
        )

    async def wait_for_change(self) -> bool:
        while not self.world.news:
            await asyncio.sleep(0.005)
        self.world.news = False
        return True

    async def close(self) -> None:
        pass


class MortalIntents(Intents):
    """The log of intents, for one life."""

    def __init__(self, folder: Path, life: Life) -> None:
        super().__init__(folder)
        self.life = life

    def begin(self, intents: Any) -> None:
        self.life.touch()
        super().begin(intents)
        self.life.touch()

    def end(self, group: str, members: Any, how: str) -> None:
        chosen = list(members)
        if chosen:
            self.life.touch()
        super().end(group, chosen, how)


def rules(**changes: Any) -> Group:
    usual = {"name": "cpu", "min": 0, "max": 8, "idle": 0.1, "drain": 30.0, "start_up": 0.1}
    return Group(**{**usual, "step_down": 1.0, **changes})


def scaler(
    folder: Path,
    world: World,
    life: Life | None = None,
    *,
    on_deadline: str = "wait",
    dry_run: bool = False,
    fleet: Any = None,
    interval: float = 0.02,
    **changes: Any,
) -> Loop:
    """A scaler over the world; the same folder is the same scaler in another life."""
    life = life or Life()
    settings = Settings(
        cluster="test",
        platform="memory",
        scheduler="tcp://memory:0",
        state=folder,
        groups=(GroupSettings(rules(**changes), MemoryHandle(group="cpu"), (), on_deadline),),  # type: ignore[arg-type]
        interval=interval,
        dry_run=dry_run,
    )
    memory, wishes = SavedState(folder), Overrides(folder)
    groups = {each.group.name: each for each in settings.groups}
    made = fleet or WorldFleet(world, life)
    fleets = {"cpu": FleetClient("cpu", lambda: made, memory.clock, limit=5)}
    intents = MortalIntents(folder, life)
    drains = Drains(WorldWorkers(world, life), memory.clock, intents.tracker)
    actor = Actor(groups, fleets, drains, intents)
    return Loop(settings, WorldSource(world, life), fleets, actor, memory, wishes)


async def live(loop: Loop, until: Any, seconds: float = 60.0) -> bool:
    """Run a scaler until something is true of the world; False when it was killed before."""
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    end = time.monotonic() + seconds
    try:
        while not until():
            if running.done():
                break
            assert time.monotonic() < end, f"not in {seconds} s; {loop.report}"
            await asyncio.sleep(0.005)
    finally:
        stop.set()
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
    if isinstance(outcome, Killed):
        return False
    if isinstance(outcome, BaseException):
        raise outcome
    return True
