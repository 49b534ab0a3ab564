"""Any steps of a scaler's parts, in any order, with a kill between any two: no member is lost."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perennial.platforms.memory import MemoryFleet, Timing
from perennial.scaler import timing
from perennial.scaler.intents import Intents
from perennial.scaler.life import State
from perennial.scaler.members import UNDER_WAY
from perennial.scaler.values import PARKED
from perennial.scaler.workers import RUNNING
from tests.scaler.world import Killed, Life, World, scaler

#: Each end of each of these is reached in the next step: steps come as the machine wants.
AT_ONCE = ("QUICK", "SLOW", "PARK", "PARK_AGAIN", "SETTLED", "REFUSED", "ABSENT", "SILENT", "STRAY")
#: What a scaler does, in this order unless a kill or a delay comes between.
DEEDS = ("tick", "round", "remove")
#: How much it can do until it is killed.
SOME = st.lists(st.sampled_from(DEEDS), min_size=1, max_size=6)
INSTANTS = st.one_of(st.just(float("inf")), st.integers(0, 60))
NAMES = st.sampled_from([f"cpu-{n}" for n in range(4)])


class Lives(RuleBasedStateMachine):
    """A platform, a scheduler, and one scaler after another on the same folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="perennial-lives-"))
        self.events = asyncio.new_event_loop()
        self.now = 0.0
        self.number = 0
        self.world = World(4)
        slow = Timing(stop=1.0, clock=lambda: self.now)
        self.world.platform = MemoryFleet("cpu", 4, timing=slow)
        self.world.look()
        self.start()

    def start(self) -> None:
        """Start a scaler; it finds what the one before it has begun."""
        self.life = Life()
        self.scaler = scaler(self.folder, self.world, self.life, drain=0.0, interval=1.0)
        self.actor = self.scaler.actor
        self.tracker = self.actor.tracker
        self.actor.resume(self.scaler.mode)

    def step(self, deed: str) -> None:
        """Take a step; a scaler that is killed meanwhile is followed by another one."""
        steps = {
            "tick": self.scaler.tick,
            "round": self.actor.drains.round,
            "remove": self.actor.remove_drained,
        }
        try:
            self.events.run_until_complete(steps[deed]())
        except Killed:
            self.stop()
            self.start()
        except OSError:
            assert self.world.away  # the loop says so and goes on

    def stop(self) -> None:
        self.life.left = -1
        self.events.run_until_complete(self.actor.drains.close())

    # What the scaler does

    @rule(deeds=SOME, left=INSTANTS)
    def live(self, deeds: list[str], left: float) -> None:
        """Have the scaler take steps, and kill it at some instant of them."""
        self.life.left = left
        for deed in deeds:
            self.step(deed)
        self.life.left = float("inf")

    @rule()
    def kill(self) -> None:
        self.stop()
        self.start()

    # What happens to it

    @rule(size=st.integers(0, 5), deeds=SOME, left=INSTANTS)
    def pin(self, size: int, deeds: list[str], left: float) -> None:
        self.world.wish(kind="pin", group="cpu", size=size, seconds=None)
        self.live(["tick", *deeds], left)

    @rule(deeds=SOME, left=INSTANTS)
    def pause(self, deeds: list[str], left: float) -> None:
        """Have a person pause the scaler for a while."""
        self.world.wish(kind="pause")
        self.live(deeds, left)
        self.world.wish(kind="resume")

    @rule(deeds=SOME, left=INSTANTS)
    def away(self, deeds: list[str], left: float) -> None:
        """Have the scheduler not answer for a while."""
        self.world.away = True
        self.live(deeds, left)
        self.world.away = False

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        """Let time pass for the platform: after a second who leaves is gone."""
        self.now += seconds

    @rule(name=NAMES)
    def work(self, name: str) -> None:
        """Give a member something to do, as Dask does only while it is not parked."""
        if self.world.status.get(name) == RUNNING:
            self.number += 1
            self.world.tasks.setdefault(name, {})[f"task-{self.number}"] = float("inf")

    @rule()
    def finish(self) -> None:
        """End all tasks; their results stay where they ran."""
        now = time.monotonic()
        self.world.tasks = {name: dict.fromkeys(t, now) for name, t in self.world.tasks.items()}
        self.world.look()

    @rule(name=NAMES)
    def bind(self, name: str) -> None:
        self.world.kept ^= {name}

    @rule(name=NAMES, word=st.sampled_from([PARKED, RUNNING]))
    def stray(self, name: str, word: str) -> None:
        """Have somebody else park a member, or tell it to run."""
        if name in self.world.status:
            self.world.status[name] = word

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        """Have a member's process end, and come back with nothing."""
        if name in self.world.status:
            self.world.status[name] = RUNNING
            self.world.tasks.pop(name, None)
            self.world.data.pop(name, None)

    @rule(deeds=SOME)
    def crash_and_work(self, deeds: list[str]) -> None:
        """Have parked members come back, and be given something before they are removed."""
        self.live(["round", "round"], float("inf"))
        for name, word in [*self.world.status.items()]:
            if word == PARKED:
                self.crash(name)
                self.work(name)
        self.live(["remove", *deeds], float("inf"))

    @rule(deeds=SOME, left=INSTANTS)
    def keep(self, deeds: list[str], left: float) -> None:
        """Have the platform not remove whom it was told to remove."""
        self.live(["round", "round", "remove"], float("inf"))
        entries = self.world.platform._entries
        entries.update({index: replace(each, gone=None) for index, each in entries.items()})
        self.live(["tick", *deeds], left)

    @rule(name=NAMES)
    def absent(self, name: str) -> None:
        """Have the scheduler lose sight of a member, or find it again."""
        self.world.silent ^= {name}
        self.world.status.pop(name, None)
        self.world.tasks.pop(name, None)
        self.world.data.pop(name, None)

    @rule(name=NAMES)
    def take_away(self, name: str) -> None:
        """Have a person remove a member on the platform."""
        found = self.world.platform.observe()
        named = [each for each in found.members if each.worker == name]
        if named:
            self.world.platform.resize(found.desired - 1, named)

    # What holds

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.world.lost == []

    @invariant()
    def the_disk_has_what_is_begun(self) -> None:
        again = {who: each.doing for who, each in Intents(self.folder).open.items()}
        assert again == {who: each.doing for who, each in self.actor.intents.open.items()}

    @invariant()
    def views_are_of_one_value(self) -> None:
        lives = {("cpu", name): each for name, each in self.tracker.lives.get("cpu", {}).items()}
        for who, life in lives.items():
            assert (life.drain is not None) == (life.state in UNDER_WAY - {State.RETURNING})
            assert life.running is None or life.state is State.RETURNING
            more = life.state in UNDER_WAY | {State.LEAVING} or life.intent or life.pause
            assert (who in self.tracker.marked) == bool(more)
            if life.state in UNDER_WAY:
                assert life.intent is not None, f"{who}: a kill now, and nobody would go on"
            if life.intent is not None:
                ends = {State.LEAVING, State.RUNNING, State.GONE, State.LOST}
                assert life.state in UNDER_WAY | ends
        assert all(lives[who] is life for who, life in self.tracker.marked.items())

    @precondition(lambda self: self.world.status)
    @rule()
    def come_to_an_end(self) -> None:
        """Have all that hinders end: then each member runs, and nothing is begun."""
        world = self.world
        world.silent, world.kept = set(), set()
        self.finish()
        self.pin(3, [], float("inf"))
        for _ in range(100):
            self.live([*DEEDS], float("inf"))
            self.now += 1.0
            world.look()
            here = world.platform.observe()
            sized = len(here.members) == here.desired == 3
            running = [*world.status.values()] == [RUNNING] * 3
            if sized and running and not self.actor.intents.open:
                break
        else:
            raise AssertionError(f"{world.status}, {self.tracker.lives}, {self.scaler.report}")
        self.live(["tick"], float("inf"))
        states = {name: each.state for name, each in self.tracker.lives["cpu"].items()}
        left = {name: each for name, each in states.items() if each is not State.GONE}
        assert left == dict.fromkeys(world.status, State.RUNNING)

    def teardown(self) -> None:
        try:
            self.come_to_an_end()
        finally:
            self.stop()
            self.events.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(50, 30), pytest.param(1000, 60, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_no_member_is_lost_on_any_way(
    monkeypatch: pytest.MonkeyPatch, examples: int, steps: int
) -> None:
    for name in AT_ONCE:
        monkeypatch.setattr(timing, name, 0.0)
    monkeypatch.setattr(timing, "DRAIN_AGAIN", 0.0)
    monkeypatch.setattr(timing, "PLATFORM_AGAIN", 0.0)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Lives,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
