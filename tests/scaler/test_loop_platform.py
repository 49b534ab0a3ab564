"""The loop and platforms that refuse, forget, pick and hang."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perennial.errors import Busy, FleetError, NoCapacity
from perennial.observation import Observation
from perennial.scaler import timing
from perennial.scaler.loop import Loop
from perennial.scaler.workers import RUNNING
from tests.scaler.world import Life, World, WorldFleet, live, scaler


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in less time."""
    scale = {"QUICK": 0.005, "SLOW": 0.01, "PARK": 0.1, "PARK_AGAIN": 0.05, "SETTLED": 0.03}
    for name, value in {**scale, "REFUSED": 0.1, "ABSENT": 0.2, "SHARE": 1.0}.items():
        monkeypatch.setattr(timing, name, value)


def run(loop: Loop, until: Any, seconds: float = 20.0) -> None:
    assert asyncio.run(live(loop, until, seconds))


def ticks(loop: Loop, number: int) -> Any:
    """Whether so many more ticks have ended."""
    before = loop.health.ticks
    return lambda: loop.health.ticks >= before + number


def pinned(world: World, size: int, seconds: float | None = None) -> None:
    world.wish(kind="pin", group="cpu", size=size, seconds=seconds)


def size(world: World) -> int:
    return world.platform.observe().desired


def test_a_removal_that_the_platform_forgot_is_asked_for_again(tmp_path: Path) -> None:
    world = World(2)

    class Forgetful(WorldFleet):
        times = 0

        def resize(self, to: int, leaving: Any = ()) -> int:
            if leaving and not Forgetful.times:
                Forgetful.times += 1
                return to
            return super().resize(to, leaving)

    pinned(world, 1)
    run(scaler(tmp_path, world, fleet=Forgetful(world, Life())), lambda: size(world) == 1)
    assert Forgetful.times == 1


def test_where_the_platform_picks_it_picks_who_is_drained(tmp_path: Path) -> None:
    world = World(3)
    world.look()

    class Picking(WorldFleet):
        chooses = False

    world.tasks = {"cpu-0": {"t": time.monotonic() + 0.3}}
    pinned(world, 1)
    run(scaler(tmp_path, world, fleet=Picking(world, Life())), lambda: size(world) == 1)
    assert world.lost == []
    assert world.removed == ["cpu-0", "cpu-1"]


def test_after_an_error_the_platform_is_left_alone_for_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "PLATFORM_AGAIN", 0.1)
    world = World(0)
    calls: list[float] = []

    class Full(WorldFleet):
        def resize(self, to: int, leaving: Any = ()) -> int:
            calls.append(time.monotonic())
            raise NoCapacity("cpu: no room for more; wait, or lower max")

    loop = scaler(tmp_path, world, fleet=Full(world, Life()), min=3)
    said: list[str] = []

    def told() -> bool:
        said.append(loop.report["groups"]["cpu"]["trouble"] if len(calls) >= 4 else "")
        return bool(said[-1])

    run(loop, told)
    pauses = [after - before for before, after in itertools.pairwise(calls)]
    assert len(pauses) >= 3  # another one, where the report was late
    assert all(pause >= 0.1 * 2**n for n, pause in enumerate(pauses)), pauses
    assert said[-1] == "cpu: no room for more; wait, or lower max"


def test_a_platform_that_does_not_answer_holds_no_tick_up_twice(tmp_path: Path) -> None:
    world = World(1)
    hang = threading.Event()

    class Hanging(WorldFleet):
        calls = 0

        def observe(self) -> Observation:
            Hanging.calls += 1
            hang.wait(20)
            return super().observe()

    loop = scaler(tmp_path, world, fleet=Hanging(world, Life()), min=2)
    loop.fleets["cpu"].limit = 0.2
    said: list[tuple[int, str, str]] = []

    def over() -> bool:
        if loop.health.ticks == 10 and not said:
            record = loop.report["groups"]["cpu"]
            said.append((Hanging.calls, record["rule"], record["trouble"]))
            hang.set()
        return size(world) == 2

    run(loop, over)
    ((calls, rule, trouble),) = said
    assert (calls, rule) == (1, "no-observation")
    assert "cpu: the platform has not answered for" in trouble


def test_whatever_a_fleet_raises_the_loop_goes_on(tmp_path: Path) -> None:
    world = World(1)

    class Broken(WorldFleet):
        calls = 0

        def observe(self) -> Observation:
            Broken.calls += 1
            if Broken.calls < 5:
                raise (RuntimeError, FleetError)[Broken.calls % 2](f"broken {Broken.calls}")
            return super().observe()

    run(scaler(tmp_path, world, fleet=Broken(world, Life()), min=2), lambda: size(world) == 2)


def test_members_come_back_before_new_ones_are_started(tmp_path: Path) -> None:
    world = World(4)
    world.look()
    world.data = {name: {f"data-{name}"} for name in world.status}
    world.tasks = {name: {f"t-{name}": time.monotonic() + 0.6} for name in world.status}
    pinned(world, 1)
    loop = scaler(tmp_path, world)
    run(loop, lambda: len(loop.actor.drains.drains) == 3)
    kept = dict(world.status)

    class Held(WorldFleet):
        """Takes no removal, so that the parked members stay parked."""

        def resize(self, to: int, leaving: Any = ()) -> int:
            if leaving:
                raise Busy("cpu: somebody else is at work")
            return super().resize(to, leaving)

    loop = scaler(tmp_path, world, fleet=Held(world, Life()))
    run(loop, lambda: all(map(loop.actor.tracker.drained, loop.actor.drains.drains.values())))
    pinned(world, 4)
    run(scaler(tmp_path, world), lambda: set(world.status.values()) == {RUNNING})
    assert world.status.keys() == kept.keys()
    assert world.platform.asked == []
