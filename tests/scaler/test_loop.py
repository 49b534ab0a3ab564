"""The loop over a world in memory: what it does, and what it leaves alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perennial.aws.alarms import OVERDUE
from perennial.errors import NoCapacity
from perennial.fleet import FixedFleet
from perennial.scaler import loop as loops
from perennial.scaler import timing
from perennial.scaler.intents import Intents
from perennial.scaler.life import State
from perennial.scaler.loop import Loop
from perennial.scaler.members import Intent
from perennial.scaler.values import PARKED, Decision, Decisions
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


def at_work(members: int, seconds: float, word: str = "t") -> World:
    """A world each of whose members runs a task for some time."""
    world = World(members)
    world.look()
    world.tasks = {name: {f"{word}-{name}": time.monotonic() + seconds} for name in world.status}
    return world


def ticks(loop: Loop, number: int) -> Any:
    """Whether so many more ticks have ended."""
    before = loop.health.ticks
    return lambda: loop.health.ticks >= before + number


def pinned(world: World, size: int, seconds: float | None = None) -> None:
    world.wish(kind="pin", group="cpu", size=size, seconds=seconds)


def trouble(loop: Loop) -> str:
    """What the latest record of the group says is wrong."""
    return str(loop.report["groups"]["cpu"]["trouble"]) if loop.report else ""


def size(world: World) -> int:
    return world.platform.observe().desired


class Refusing(WorldFleet):
    """A platform that removes nobody."""

    def resize(self, to: int, leaving: Any = ()) -> int:
        if leaving:
            raise NoCapacity("cpu: removes nobody now; try it later")
        return super().resize(to, leaving)


def test_it_grows_for_work_and_shrinks_without(tmp_path: Path) -> None:
    world = World(0)
    world.ready = 100
    loop = scaler(tmp_path, world)

    def grown() -> bool:
        if size(world) == 8:
            world.ready = 0
        return world.ready == 0

    run(loop, grown)
    run(scaler(tmp_path, world), lambda: size(world) == 0)
    assert world.lost == []


def test_news_are_looked_at_before_the_next_tick_is_due(tmp_path: Path) -> None:
    world = World(0)
    loop = scaler(tmp_path, world, interval=20.0)

    async def watch() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(loop.run(stop))
        while not loop.health.ticks:
            await asyncio.sleep(0.01)
        world.ready, world.news = 100, True
        async with asyncio.timeout(19):  # of 20: it has been woken
            while size(world) < 8:
                await asyncio.sleep(0.01)
        stop.set()
        await running

    asyncio.run(watch())
    first, second = world.reads[:2]
    assert second - first >= 4.0 - 0.5, "not sooner than a fifth of the interval"


def test_news_are_looked_at_again_soon(tmp_path: Path) -> None:
    """What tasks take is not known at once."""
    world = World(0)
    loop = scaler(tmp_path, world, interval=10.0)

    async def watch() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(loop.run(stop))
        while not loop.health.ticks:
            await asyncio.sleep(0.01)
        world.news = True
        while loop.health.ticks < 2 + loops.AFTER:
            await asyncio.sleep(0.01)
        stop.set()
        await running

    asyncio.run(watch())
    second, last = world.reads[1], world.reads[1 + loops.AFTER]
    assert last - second < loops.AFTER * 10.0 - 5.0, "sooner than by the interval"


def test_news_are_heard_again_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "CHANGE_AGAIN", 0.01)
    world = World(0)
    loop = scaler(tmp_path, world)
    heard, usual = [0], loop.source.wait_for_change

    async def news() -> bool:
        heard[0] += 1
        if heard[0] < 3:
            raise ValueError("an answer that nobody understands")
        return await usual()

    monkeypatch.setattr(loop.source, "wait_for_change", news)
    world.news = True
    run(loop, lambda: heard[0] > 3)


def test_a_busy_member_stays_until_it_is_done(tmp_path: Path) -> None:
    world = at_work(2, 0.5, "task")
    pinned(world, 1)
    begun = time.monotonic()
    run(scaler(tmp_path, world), lambda: size(world) == 1)
    assert time.monotonic() - begun >= 0.4
    assert world.lost == []
    assert len(world.removed) == 1


def test_groups_that_it_only_watches_are_told(tmp_path: Path) -> None:
    world = World(1)
    for fleet, fixed in ((FixedFleet(["cpu-0"]), ["cpu"]), (None, [])):
        loop = scaler(tmp_path, world, min=1, fleet=fleet)
        run(loop, ticks(loop, 2))
        assert loop.report["fixed"] == fixed


def test_a_dry_run_decides_and_changes_nothing(tmp_path: Path) -> None:
    world = World(3)
    pinned(world, 1)
    loop = scaler(tmp_path, world, dry_run=True)
    run(loop, ticks(loop, 20))
    assert loop.report["groups"]["cpu"]["to"] == 1
    assert loop.report["mode"] == "dry-run"
    assert world.platform.asked == []
    assert set(world.status.values()) == {RUNNING}
    assert not (tmp_path / "intents.jsonl").read_text()


def test_a_dry_run_leaves_what_another_scaler_has_begun(tmp_path: Path) -> None:
    world = World(2)
    world.look()
    Intents(tmp_path).begin([Intent("cpu", "cpu-0", "drain", time.time())])
    world.status["cpu-0"] = PARKED
    before = (tmp_path / "intents.jsonl").read_text()
    loop = scaler(tmp_path, world, dry_run=True)
    run(loop, ticks(loop, 10))
    assert world.status["cpu-0"] == PARKED
    assert Intents(tmp_path).open.keys() == {("cpu", "cpu-0")}
    assert "cpu-0" in before


def test_a_pause_undoes_drains_and_changes_nothing_else(tmp_path: Path) -> None:
    world = at_work(3, 60)
    pinned(world, 1)
    loop = scaler(tmp_path, world)
    run(loop, lambda: list(world.status.values()).count(PARKED) == 2)
    world.wish(kind="pause")
    loop = scaler(tmp_path, world)
    run(loop, lambda: loop.mode == "paused" and set(world.status.values()) == {RUNNING})
    loop = scaler(tmp_path, world)  # and the next one is paused as well
    run(loop, ticks(loop, 10))
    assert loop.report["mode"] == "paused"
    assert loop.report["groups"]["cpu"]["to"] == 1
    assert world.platform.asked == []
    world.wish(kind="resume")
    loop = scaler(tmp_path, world)
    run(loop, lambda: list(world.status.values()).count(PARKED) == 2)


def test_who_is_being_drained_is_brought_back_when_it_stops(tmp_path: Path) -> None:
    world = at_work(3, 60, "task")
    pinned(world, 1)
    run(scaler(tmp_path, world), lambda: list(world.status.values()).count(PARKED) == 2)
    assert set(world.status.values()) == {RUNNING}
    assert len(world.status) == size(world) == 3
    assert not Intents(tmp_path).open
    assert world.removed == []


def test_it_stops_although_nobody_can_be_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "STOPPING", 0.2)
    world = at_work(2, 60, "task")
    pinned(world, 1)

    def gone() -> bool:
        world.away = PARKED in world.status.values()
        return world.away

    run(scaler(tmp_path, world), gone)
    assert len(Intents(tmp_path).open) == 1  # the next one goes on
    world.away = False
    monkeypatch.undo()
    loop = scaler(tmp_path, world)
    run(loop, ticks(loop, 3))
    assert set(world.status.values()) == {RUNNING}
    assert not Intents(tmp_path).open


def test_wishes_are_taken_up_once_and_forgotten_at_the_scheduler(tmp_path: Path) -> None:
    world = World(1)
    pinned(world, 3, seconds=3600)
    world.wish(kind="bounds", group="cpu", min=None, max=5)
    world.wish(kind="pin", group="gpu", size=3, seconds=None)
    loop = scaler(tmp_path, world)
    run(loop, lambda: size(world) == 3 and not world.wishes)
    (group,) = loop.rules(_now()).groups
    assert (group.pin, group.min, group.max) == (3, 0, 5)
    again = scaler(tmp_path, world)
    assert again.rules(_now()).groups == (group,)
    left = again.overrides.summary(again.clock())["pins"]["cpu"]["left"]
    assert 3500 < left <= 3600
    # The end of the pin is when time alone may change the size.
    assert 3500 < loop.report["groups"]["cpu"]["again"] <= 3600


def test_a_pin_ends(tmp_path: Path) -> None:
    world = World(1)
    pinned(world, 3, seconds=0.3)
    run(scaler(tmp_path, world), lambda: size(world) == 3)
    run(scaler(tmp_path, world), lambda: size(world) == 0)


def test_a_scheduler_that_is_away_holds_everything(tmp_path: Path) -> None:
    world = World(4)
    world.look()
    world.tasks = {"cpu-3": {"t": time.monotonic() + 0.2}}
    pinned(world, 1)
    loop = scaler(tmp_path, world)
    run(loop, lambda: PARKED in world.status.values())
    asked = list(world.platform.asked)
    world.away = True
    loop = scaler(tmp_path, world)
    run(loop, ticks(loop, 20))
    assert world.platform.asked == asked
    assert "does not answer" in trouble(loop)
    assert loop.report["groups"]["cpu"]["rule"] == "no-demand"
    world.away = False
    run(scaler(tmp_path, world), lambda: size(world) == 1)
    assert world.lost == []


def test_after_a_new_scheduler_nobody_leaves_until_all_are_there(tmp_path: Path) -> None:
    world = World(4)
    loop = scaler(tmp_path, world, min=2, max=2)
    world.silent = {"cpu-2", "cpu-3"}
    world.scheduler, world.uptime = "second", 1.0
    run(loop, ticks(loop, 20))
    assert world.platform.asked == []
    assert loop.report["groups"]["cpu"]["rule"] == "restarted"
    world.silent = set()
    run(scaler(tmp_path, world, min=2, max=2), lambda: size(world) == 2)


def chosen(monkeypatch: pytest.MonkeyPatch, *leave: str, to: int) -> None:
    """A policy that is less careful than ours."""

    def decide(_: Any, __: Any, standings: Any, history: Any, ___: float) -> Decisions:
        draining = standings["cpu"].draining
        left = tuple(name for name in leave if name not in draining)
        return Decisions({"cpu": Decision("cpu", to + len(left), to, left)}, (), history)

    monkeypatch.setattr("perennial.scaler.loop.decide", decide)


def test_a_member_whose_data_nobody_can_take_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(2)
    world.look()
    world.data = {name: {f"data-{name}"} for name in world.status}
    chosen(monkeypatch, "cpu-0", "cpu-1", to=0)
    loop = scaler(tmp_path, world)

    def refused() -> bool:
        return loop.actor.counts["stayed"] >= 2 and RUNNING in world.status.values()

    run(loop, refused)
    trouble = loop.actor.trouble("cpu")
    assert "stays: no other worker can take what only it holds (1 key (data-cpu-" in trouble
    assert world.lost == []
    assert world.platform.asked == []
    monkeypatch.undo()
    run(scaler(tmp_path, world), lambda: PARKED not in world.status.values())


def test_a_refusal_is_tried_again_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "DRAIN_AGAIN", 0.2)
    world = World(2)
    world.look()
    world.actors = {"cpu-0"}
    chosen(monkeypatch, "cpu-0", to=1)
    loop = scaler(tmp_path, world)

    def over() -> bool:
        if loop.actor.counts["stayed"] >= 2:
            world.actors = set()
        return size(world) == 1

    run(loop, over)
    assert world.lost == []


def test_past_the_deadline_it_waits_and_says_for_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = at_work(2, 2, "long")
    pinned(world, 1)
    loop = scaler(tmp_path, world, drain=0.2)
    run(loop, lambda: "past the deadline" in trouble(loop) and OVERDUE in caplog.text)
    assert "waits for 1 task (long-cpu-" in trouble(loop)
    # Once in a while, in words that an alarm on AWS counts.
    assert caplog.text.count(OVERDUE) == 1
    assert world.platform.asked == []
    run(scaler(tmp_path, world, drain=0.2), lambda: size(world) == 1)
    assert world.lost == []


def test_past_the_deadline_it_stops_and_says_what_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = at_work(2, 60, "long")
    pinned(world, 1)
    loop = scaler(tmp_path, world, drain=0.2, on_deadline="stop")
    run(loop, lambda: size(world) == 1)
    assert len(world.lost) == 1
    assert f"gives up 1 task ({world.lost[0]})" in caplog.text
    assert loop.actor.counts["given-up"] == 1
    assert world.hastened == {f"at-{world.removed[0]}"}


def test_one_that_does_not_answer_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "BRIEF", 0.02)
    monkeypatch.setattr(timing, "SHARE", 0.01)  # if waiting counted, the next round were far
    world = World(4)
    world.look()
    world.hung = {"cpu-1"}
    pinned(world, 0)
    loop = scaler(tmp_path, world)
    run(loop, lambda: size(world) == 1 and "cpu-1 does not answer" in trouble(loop))
    assert sorted(world.removed) == ["cpu-0", "cpu-2", "cpu-3"]
    world.hung = set()
    run(scaler(tmp_path, world), lambda: size(world) == 0)
    assert world.lost == []


def test_whoever_is_needed_where_it_is_stays(tmp_path: Path) -> None:
    world = World(3)
    world.look()
    world.kept = {"cpu-1"}
    loop = scaler(tmp_path, world)
    run(loop, lambda: size(world) == 1)
    loop = scaler(tmp_path, world)
    run(loop, ticks(loop, 10))
    assert (size(world), set(world.status)) == (1, {"cpu-1"})
    assert loop.report["groups"]["cpu"]["rule"] == "kept"
    world.kept = set()
    run(scaler(tmp_path, world), lambda: size(world) == 0)


def test_what_begins_during_a_drain_undoes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "DRAIN_AGAIN", 0.2)
    world = at_work(2, 1)
    pinned(world, 1)
    loop = scaler(tmp_path, world)

    def undone() -> bool:
        world.kept |= {name for name, word in world.status.items() if word == PARKED}
        running = all(world.status[name] == RUNNING for name in world.kept)
        return bool(world.kept) and running and "stays" in trouble(loop)

    run(loop, undone)
    assert "a shuffle goes on there" in trouble(loop)
    assert world.removed == []
    world.kept = set()
    run(scaler(tmp_path, world), lambda: size(world) == 1)
    assert world.lost == []


def test_whoever_has_something_again_is_not_removed(tmp_path: Path) -> None:
    """Between a round of the drains and the removal, a worker has been restarted."""
    world = World(2)
    world.look()
    pinned(world, 1)
    refused: list[str] = []

    class Meanwhile(WorldFleet):
        def observe(self) -> Any:
            ready = [*loop.actor.drains.ready("cpu")]
            if ready and not refused:
                refused.extend(ready)  # the platform is slow; meanwhile:
                world.status[ready[0]] = RUNNING
                world.tasks[ready[0]] = {"new": time.monotonic() + 0.5}
            return super().observe()

    loop = scaler(tmp_path, world, fleet=Meanwhile(world, Life()))
    run(loop, lambda: size(world) == 1)
    assert refused
    assert world.lost == []


def test_a_pause_lets_those_go_whom_their_platform_removes(tmp_path: Path) -> None:
    world = at_work(2, 60)
    pinned(world, 0)
    loop = scaler(tmp_path, world)
    returning: list[Any] = []

    def let_go() -> bool:
        if list(world.status.values()) == [PARKED, PARKED]:
            loop.actor.tracker.of(("cpu", "cpu-0")).state = State.LEAVING  # by a person, over there
            loop.actor.undo_drains()
            returning.extend(loop.actor.drains.returning)
        return bool(returning)

    run(loop, let_go)
    assert returning == [("cpu", "cpu-1")]


def test_nannies_wait_again_when_what_was_given_up_is_let_go(tmp_path: Path) -> None:
    world = at_work(2, 60, "long")
    pinned(world, 1)
    loop = scaler(tmp_path, world, drain=0.2, on_deadline="stop", fleet=Refusing(world, Life()))
    run(loop, lambda: bool(world.hastened))
    world.wish(kind="pause")
    run(loop, lambda: not world.hastened and PARKED not in world.status.values())


def test_a_drain_that_nobody_went_on_with_has_not_used_its_time(tmp_path: Path) -> None:
    """A kill between the log and the first park; then hours without a scaler."""
    world = at_work(2, 1)
    Intents(tmp_path).begin([Intent("cpu", "cpu-0", "drain", time.time(), begun=0.001)])
    loop = scaler(tmp_path, world, max=1, drain=10.0, on_deadline="stop")
    run(loop, lambda: size(world) == 1)
    assert (world.lost, world.removed) == ([], ["cpu-0"])


def test_a_platform_that_was_cut_off_is_asked_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "STILL", 0.2)
    world = World(2)
    world.look()

    class CutOff(WorldFleet):
        asked = 0

        def observe(self) -> Any:
            return replace(super().observe(), settled=self.asked > 0)

        def resize(self, to: int, leaving: Any = ()) -> int:
            self.asked += 1
            return super().resize(to, leaving)

    fleet = CutOff(world, Life())
    loop = scaler(tmp_path, world, min=2, fleet=fleet)
    run(loop, lambda: fleet.asked > 0)
    run(loop, ticks(loop, 20))
    assert (fleet.asked, size(world)) == (1, 2)


def test_a_parked_member_that_nobody_remembers_is_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(timing, "STRAY", 0.2)
    world = World(3)
    world.look()
    world.status["cpu-1"] = PARKED
    run(scaler(tmp_path, world, min=3, drain=0.1), lambda: PARKED not in world.status.values())
    assert "cpu-1: parked, and nobody drains it; brought back" in caplog.text


def test_a_member_of_a_group_that_is_no_more_is_brought_back(tmp_path: Path) -> None:
    Intents(tmp_path).begin([Intent("gpu", "gpu-0", "drain", time.time())])
    world = World(1)
    loop = scaler(tmp_path, world, min=1)
    run(loop, lambda: not loop.actor.intents.open)
    assert Intents(tmp_path).open == {}


def test_a_member_that_goes_by_itself_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "perennial.scaler")
    world = World(2)
    loop = scaler(tmp_path, world, min=2)
    run(loop, ticks(loop, 3))
    world.platform.resize(1, [world.platform.observe().members[0]])
    run(loop, lambda: size(world) == 2 and len(world.status) == 2)
    assert "cpu-0: running → " in caplog.text
    assert "and not by the scaler" in caplog.text


def test_without_room_on_the_disk_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(3)
    pinned(world, 1)
    loop = scaler(tmp_path, world)
    full = OSError(28, "No space left on device")

    def refuse(*_: Any) -> None:
        raise full

    monkeypatch.setattr(loop.actor.intents, "_append", refuse)
    run(loop, ticks(loop, 10))
    assert set(world.status.values()) == {RUNNING}
    assert world.platform.asked == []
    assert "No space left" in loop.health.trouble["tick"]


def test_clocks_that_are_set_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_work(3, 0.5)
    pinned(world, 2, seconds=3600)
    run(scaler(tmp_path, world), lambda: PARKED in world.status.values())
    real = time.time
    for jump in (-1e7, 1e7, 0.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        loop = scaler(tmp_path, world)
        assert loop.clock() >= 0
        run(loop, ticks(loop, 3))
    monkeypatch.undo()
    assert world.lost == []


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
