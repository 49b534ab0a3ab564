"""The fleet in memory: the contract, and what tests may ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import Busy, NoCapacity
from perennial.fleet import FixedFleet, FixedHandle, chosen, opened, read
from perennial.observation import Member
from perennial.platforms.memory import MemoryFleet, PickingFleet, Timing
from tests.platforms.contract import Contract, Platform, there


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.start_up = 0.0

    def timing(self, stop: float = 0.0) -> Timing:
        return Timing(lambda _name: self.start_up, stop, lambda: self.now)


class InMemory(Platform):
    def __init__(self, kind: type[MemoryFleet] = MemoryFleet) -> None:
        self.clock = Clock()
        self.memory = self.fleet = kind("cpu", 3, timing=self.clock.timing())

    def picture(self) -> Any:
        return repr(self.memory._entries)

    def hold_back(self) -> None:
        self.clock.start_up = float("inf")

    def lose(self) -> None:
        self.memory.known = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.memory.faults["resize"].append(Busy("cpu: busy"))
        yield

    def fill(self) -> None:
        self.memory.room = 3


class TestMemory(Contract):
    @pytest.fixture
    def platform(self) -> Platform:
        return InMemory()


class TestPicking(Contract):
    @pytest.fixture
    def platform(self) -> Platform:
        return InMemory(PickingFleet)


def test_a_fixed_fleet_keeps_the_contract_but_for_its_size() -> None:
    """What changes sizes cannot hold for it; the rest does."""
    platform = Platform()
    platform.fleet = fleet = FixedFleet(["cpu-0", "cpu-1", "cpu-2"])
    platform.picture = lambda: fleet.members  # type: ignore[method-assign]
    contract = Contract()
    contract.test_it_has_the_whole_interface_and_nothing_optional(platform)
    contract.test_to_observe_changes_nothing(platform)
    contract.test_who_is_gone_already_is_a_success(platform)
    seen = fleet.observe()
    assert (seen.least, seen.desired, seen.most, seen.settled) == (3, 3, 3, True)
    for size, leaving in ((0, seen.members), (5, ()), (3, seen.members[:1])):
        assert fleet.resize(size, leaving) == 3
        assert fleet.observe() == seen
    assert opened("memory", FixedHandle(members=("cpu-0",))).observe().desired == 1


def test_members_start_and_leave_by_the_clock() -> None:
    clock = Clock()
    clock.start_up = 60.0
    fleet = MemoryFleet("cpu", timing=clock.timing(stop=5.0))
    assert fleet.resize(2) == 2
    assert {member.state for member in fleet.observe().members} == {"starting"}
    clock.now += 60.0
    seen = fleet.observe()
    assert seen.settled
    assert fleet.resize(1, seen.members[:1]) == 1
    seen = fleet.observe()
    assert [(member.id, member.state) for member in seen.members] == [
        ("cpu-0", "leaving"),
        ("cpu-1", "running"),
    ]
    assert seen.desired == 1
    # The name of who has not gone yet is not given away.
    assert fleet.resize(2) == 2
    assert there(fleet.observe()) == {"cpu-1", "cpu-2"}
    clock.now += 5.0
    assert fleet.resize(3) == 3
    assert there(fleet.observe()) == {"cpu-0", "cpu-1", "cpu-2"}


def test_what_fits_is_started_and_the_rest_is_refused() -> None:
    fleet = MemoryFleet("cpu", 1, room=3)
    assert fleet.resize(9) == 3
    with pytest.raises(NoCapacity):
        fleet.resize(9)
    assert fleet.observe().desired == 3


def test_a_platform_that_picks_removes_the_oldest_whoever_was_named() -> None:
    fleet = PickingFleet("cpu", 3)
    assert not fleet.chooses
    members = fleet.observe().members
    assert fleet.resize(2, [members[2]]) == 2
    assert there(fleet.observe()) == {"cpu-1", "cpu-2"}


def test_it_is_opened_by_its_handle() -> None:
    fleet = opened("memory", read("memory", {"group": "cpu", "size": 2}))
    assert fleet.observe().desired == 2


def test_a_fixed_group_has_its_size_whatever_is_asked() -> None:
    fleet = opened("hosts", read("hosts", {"members": ["gpu-mb-0", "gpu-mc-0"]}))
    seen = fleet.observe()
    assert [member.worker for member in seen.members] == ["gpu-mb-0", "gpu-mc-0"]
    assert (seen.desired, seen.least, seen.most, seen.settled) == (2, 2, 2, True)
    assert fleet.resize(0, seen.members) == 2
    assert fleet.observe() == seen


@given(st.lists(st.tuples(st.integers(0, 12), st.sets(st.integers(0, 12))), max_size=20))
def test_a_running_member_leaves_only_when_it_is_named(steps: list[tuple[int, set[int]]]) -> None:
    clock = Clock()
    fleet = MemoryFleet("cpu", 4, timing=clock.timing(stop=2.0))
    for number, (to, named) in enumerate(steps):
        clock.start_up = 3.0 if number % 2 else 0.0
        seen = fleet.observe()
        leaving = [m for m in seen.members if int(m.id.rpartition("-")[2]) in named]
        running = {m.id for m in seen.members if m.state == "running"}
        size = fleet.resize(to, leaving)
        after = fleet.observe()
        assert running - there(after) == running & {member.id for member in leaving}
        assert size == after.desired == len(there(after)) >= to
        assert fleet.resize(to, leaving) == size
        assert fleet.observe() == after
        clock.now += 1.0


def test_the_newest_of_what_has_not_started_goes() -> None:
    running = [Member(name, f"cpu-{name}", "running") for name in ("a", "b", "c")]
    starting = [Member(name, f"cpu-{name}", "starting") for name in ("d", "e", "f")]
    everyone = [*running, *starting, Member("g", "cpu-g", "leaving")]
    assert chosen(everyone, 5, ()) == ["f"]
    assert chosen(everyone, 0, ()) == ["f", "e", "d"]
    assert chosen(everyone, 4, {"a"}) == ["a", "f"]
    assert chosen(everyone, 9, {"a", "g", "z"}) == ["a"]
