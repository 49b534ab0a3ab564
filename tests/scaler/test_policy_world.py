"""A world that lives on: whatever happens to it, the rules hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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

from perennial.scaler.values import (
    Decisions,
    Group,
    History,
    Standing,
)
from tests.scaler.toy import Toy


class World(RuleBasedStateMachine):
    """Work comes, members crash, people pin, schedulers restart, clocks jump: rules hold."""

    def __init__(self) -> None:
        super().__init__()
        groups = (
            Group("cpu", min=1, max=8, slots=2, start_up=30.0),
            Group("big", max=5, start_up=30.0, cost=3.0),
        )
        self.toy = Toy(groups)
        self.away: dict[str, int] = {}

    def change(self, **values: object) -> None:
        first, *others = self.toy.groups
        self.toy.groups = (replace(first, **values), *others)  # type: ignore[arg-type]

    @rule(tasks=st.integers(1, 60), length=st.sampled_from([0.1, 1.0, 20.0, 200.0]))
    def submit(self, tasks: int, length: float) -> None:
        self.toy.backlog += [length] * tasks

    @rule(ticks=st.integers(1, 12), silent=st.sampled_from(["", "", "", "scheduler", "cpu", "big"]))
    def live(self, ticks: int, silent: str) -> None:
        for _ in range(ticks):
            toy = self.toy
            for name in [n for n, left in self.away.items() if left <= 0]:
                del self.away[name]
                toy.registered.add(name)
            self.away = {name: left - 1 for name, left in self.away.items()}
            before = toy.history
            stands = toy.standings()
            found = toy.tick(silent)
            self.look(found, silent, before, stands)

    def look(
        self, found: Decisions, silent: str, before: History, stands: Mapping[str, Standing]
    ) -> None:
        toy = self.toy
        for group in toy.groups:
            decision = found.groups[group.name]
            most = group.max if group.pin is None else group.pin
            assert decision.to <= max(most, decision.current)
            low = min(group.min, group.max) if group.pin is None else group.pin
            assert decision.to >= min(low, decision.current)
            if silent in ("scheduler", group.name):
                assert decision.to == decision.current
            for name in decision.leave:
                assert name in toy.started[group.name]
                if decision.rule not in ("pin", "max"):
                    assert not toy.running[group.name][name], "it had something to do"

    @rule(size=st.one_of(st.none(), st.integers(0, 10)))
    def pin(self, size: int | None) -> None:
        self.change(pin=size)

    @rule(least=st.integers(0, 3), more=st.integers(0, 8))
    def bound(self, least: int, more: int) -> None:
        self.change(min=least, max=least + more)

    @rule(budget=st.one_of(st.none(), st.floats(0, 20)))
    def limit(self, budget: float | None) -> None:
        self.toy.budget = budget

    @rule(ago=st.floats(-1e4, 1e4))
    def jump(self, ago: float) -> None:
        """Set the clock; the members' own ages go with it."""
        toy = self.toy
        toy.now -= ago
        for pieces in toy.started.values():
            pieces.update({name: asked - ago for name, asked in pieces.items()})
        toy.idle = {name: since - ago for name, since in toy.idle.items()}

    @rule()
    def forget(self) -> None:
        self.toy.history = History()

    @precondition(lambda self: any(self.toy.running.values()))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Kill a member's worker; its tasks run again, and it comes back."""
        toy = self.toy
        group, name = data.draw(
            st.sampled_from([(g, n) for g, workers in toy.running.items() for n in workers])
        )
        toy.backlog += toy.running[group][name]
        toy.running[group][name] = []
        toy.registered.discard(name)
        self.away[name] = 2

    @rule(identity=st.integers(0, 9))
    def restart(self, identity: int) -> None:
        """Restart the scheduler: its work is lost, and members come back one by one."""
        toy = self.toy
        toy.scheduler = f"s{identity}"
        toy.backlog.clear()
        for workers in toy.running.values():
            for index, name in enumerate(workers):
                workers[name] = []
                toy.registered.discard(name)
                self.away[name] = index

    @invariant()
    def platform_and_scheduler_agree(self) -> None:
        for group, workers in self.toy.running.items():
            assert set(workers) <= set(self.toy.started[group])

    def teardown(self) -> None:
        """Once nothing happens any more, everything that runs is done and sizes stand still."""
        toy = self.toy
        toy.budget = None
        del toy.backlog[200:]
        for group in toy.groups:
            if group.name == "cpu":
                self.change(pin=None, min=0, max=8)
        self.live(60, "")
        for _ in range(400):
            self.live(5, "")
            if not toy.backlog and not any(map(any, (w.values() for w in toy.running.values()))):
                break
        assert not toy.backlog
        for _ in range(400):  # clocks that jumped may have taught that starts take long
            if not toy.size("cpu") + toy.size("big"):
                break
            self.live(5, "")
        assert toy.size("cpu") == 0
        assert toy.size("big") == 0


steps = settings(
    deadline=None,
    max_examples=25,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)
TestWorld = World.TestCase
TestWorld.settings = steps


@pytest.mark.soak
def test_the_world_lives_long():
    """A hundred and twenty thousand steps."""
    run_state_machine_as_test(
        World, settings=settings(steps, max_examples=2400, stateful_step_count=50)
    )
