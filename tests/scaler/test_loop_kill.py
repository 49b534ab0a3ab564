"""The scaler is killed at each instant of its work, and the next one finishes it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from perennial.scaler import timing
from perennial.scaler.intents import Intents
from perennial.scaler.workers import RUNNING
from tests.scaler.world import Life, World, live, scaler


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in less time."""
    scale = {"QUICK": 0.005, "SLOW": 0.01, "PARK": 0.1, "PARK_AGAIN": 0.05, "SETTLED": 0.03}
    for name, value in {**scale, "REFUSED": 0.1, "ABSENT": 0.2, "SHARE": 1.0}.items():
        monkeypatch.setattr(timing, name, value)


def busy_world() -> World:
    """Five members with data, of which two have something to do for a while."""
    world = World(5)
    world.look()
    now = time.monotonic()
    for number, name in enumerate(list(world.status)):
        world.data[name] = {f"data-{number}"}
        if number % 2:
            world.tasks[name] = {f"task-{number}": now + 0.15}
    world.wish(kind="pin", group="cpu", size=2, seconds=None)
    return world


def settled(world: World, size: int) -> bool:
    """Whether the group has its size, and nobody is on the way anywhere."""
    world.look()
    members = world.platform.observe().members
    return (
        len(members) == size
        and world.platform.observe().desired == size
        and set(world.status.values()) == {RUNNING}
        and len(world.status) == size
    )


def story(folder: Path, life: Life) -> tuple[World, bool]:
    """Shrink from 5 to 2; meanwhile somebody wants 4, then 3."""
    world = busy_world()

    async def told() -> bool:
        loop = scaler(folder, world, life)
        if not await live(loop, lambda: len(loop.actor.drains.drains) == 3):
            return False
        world.wish(kind="pin", group="cpu", size=4, seconds=None)
        if not await live(scaler(folder, world, life), lambda: settled(world, 4)):
            return False
        world.wish(kind="pin", group="cpu", size=3, seconds=None)
        return await live(scaler(folder, world, life), lambda: settled(world, 3))

    return world, asyncio.run(told())


def finish(folder: Path, world: World) -> None:
    """Another scaler finds what was left, and brings it to a good end."""
    world.wish(kind="pin", group="cpu", size=3, seconds=None)
    loop = scaler(folder, world)

    def over() -> bool:
        idle = not any(world.tasks.values())
        return settled(world, 3) and idle and not loop.actor.intents.open

    assert asyncio.run(live(loop, over))
    assert Intents(folder).open == {}
    assert world.lost == []
    data = set().union(*world.data.values())
    assert {f"data-{number}" for number in range(5)} <= data
    assert {"task-1", "task-3"} <= data


def test_without_a_kill(tmp_path: Path) -> None:
    life = Life()
    world, alive = story(tmp_path, life)
    assert alive
    assert world.lost == []
    finish(tmp_path, world)


@pytest.mark.parametrize(
    ("first", "step"),
    [(3, 9), pytest.param(0, 1, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_killed_at_any_instant(tmp_path: Path, first: int, step: int) -> None:
    whole = Life()
    story(tmp_path / "whole", whole)
    for instant in range(first, whole.spent, step):
        folder = tmp_path / str(instant)
        world, _ = story(folder, Life(instant))
        finish(folder, world)
