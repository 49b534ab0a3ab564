"""The contract of a fleet: one suite, inherited for each platform.

A platform's test file derives from `Contract` and gives the fixture ``platform``, with a fleet of
the size 3 whose members run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perennial.errors import Busy, FleetError, FleetMissing, NoCapacity
from perennial.fleet import Fleet
from perennial.observation import Member, Observation
from tests.homes import wait_until


class Platform:
    """What a test asks of a platform, beside its fleet."""

    fleet: Fleet

    def picture(self) -> Any:
        """All that the platform knows, to be compared."""
        raise NotImplementedError

    def hold_back(self) -> None:
        """From now on members are asked for and do not start."""
        raise NotImplementedError

    def lose(self) -> None:
        """Forget the fleet."""
        raise NotImplementedError

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Work on something else."""
        raise NotImplementedError

    def fill(self) -> None:
        """Have no room for any more members."""
        raise NotImplementedError

    def settled(self, size: int) -> Observation:
        """Wait until it has a size and works on nothing."""

        def look() -> Observation | None:
            seen = self.fleet.observe()
            return seen if seen.settled and len(seen.members) == size else None

        found: Observation = wait_until(look)
        assert found.desired == size
        return found


def ids(members: Any) -> set[str]:
    return {member.id for member in members}


def there(seen: Observation) -> set[str]:
    """Members that have not been told to leave."""
    return ids(member for member in seen.members if member.state != "leaving")


class Contract:
    """What holds for every fleet."""

    def test_it_has_the_whole_interface_and_nothing_optional(self, platform: Platform) -> None:
        fleet = platform.fleet
        assert isinstance(type(fleet).chooses, bool)
        assert list(inspect.signature(fleet.observe).parameters) == []
        assert list(inspect.signature(fleet.resize).parameters) == ["to", "leaving"]

    def test_to_observe_changes_nothing(self, platform: Platform) -> None:
        before = platform.picture()
        first, second = platform.fleet.observe(), platform.fleet.observe()
        assert first == second
        assert platform.picture() == before

    def test_members_are_named_after_their_group_and_differ(self, platform: Platform) -> None:
        seen = platform.fleet.observe()
        assert seen.desired == len(seen.members) == len(ids(seen.members)) == 3
        assert len({member.worker for member in seen.members}) == 3
        assert {member.worker.rpartition("-")[0] for member in seen.members} == {"cpu"}
        assert {member.state for member in seen.members} == {"running"}
        assert seen.least <= 0
        assert seen.most is None or seen.most >= 5

    def test_a_size_is_absolute_and_said_twice_it_is_said_once(self, platform: Platform) -> None:
        before = there(platform.fleet.observe())
        assert platform.fleet.resize(5) == 5
        assert platform.fleet.resize(5) == 5
        seen = platform.settled(5)
        assert there(seen) > before

    def test_it_does_not_wait_for_members(self, platform: Platform) -> None:
        platform.hold_back()
        assert platform.fleet.resize(4) == 4
        assert platform.fleet.observe().desired == 4
        wait_until(lambda: not platform.fleet.observe().settled)

    def test_exactly_those_leave_who_are_named(self, platform: Platform) -> None:
        members = platform.fleet.observe().members
        # Where the platform picks, the first is whom it would take.
        leaving = [members[1 if platform.fleet.chooses else 0]]
        assert platform.fleet.resize(2, leaving) == 2
        seen = platform.fleet.observe()
        assert seen.desired == 2
        assert there(seen) == ids(members) - ids(leaving)
        assert platform.fleet.resize(2, leaving) == 2
        assert there(platform.settled(2)) == ids(members) - ids(leaving)

    def test_who_runs_and_is_not_named_is_never_removed(self, platform: Platform) -> None:
        before = platform.fleet.observe()
        assert platform.fleet.resize(0) == 3
        leaves = before.members[2 if platform.fleet.chooses else 0]
        assert platform.fleet.resize(1, [leaves]) == 2
        assert there(platform.settled(2)) == ids(before.members) - {leaves.id}

    def test_who_is_gone_already_is_a_success(self, platform: Platform) -> None:
        gone = Member("cpu-77", "cpu-77", "running")
        before = platform.fleet.observe()
        assert platform.fleet.resize(3, [gone]) == 3
        assert platform.fleet.observe() == before

    def test_with_too_few_named_only_what_has_not_started_is_given_up(
        self, platform: Platform
    ) -> None:
        running = there(platform.fleet.observe())
        platform.hold_back()
        assert platform.fleet.resize(6) == 6
        wait_until(
            lambda: (
                {m.state for m in platform.fleet.observe().members if m.id not in running}
                == {"starting"}
            )
        )
        assert platform.fleet.resize(5) == 5
        assert there(platform.fleet.observe()) > running
        # A platform may be just about to try one of them again.
        wait_until(lambda: platform.fleet.resize(1) == 3)
        assert there(platform.settled(3)) == running

    def test_one_leaves_while_another_comes(self, platform: Platform) -> None:
        before = platform.fleet.observe().members
        leaving = [before[0]]
        assert platform.fleet.resize(3, leaving) == 3
        assert platform.fleet.resize(3, leaving) == 3
        seen = platform.settled(3)
        assert there(seen) >= ids(before[1:])
        assert len(there(seen) - ids(before)) == 1

    def test_down_to_nothing_and_back(self, platform: Platform) -> None:
        assert platform.fleet.resize(0, platform.fleet.observe().members) == 0
        assert platform.settled(0).members == ()
        assert platform.fleet.resize(2) == 2
        assert len(platform.settled(2).members) == 2

    def test_a_fleet_that_nobody_knows(self, platform: Platform) -> None:
        platform.lose()
        with pytest.raises(FleetMissing, match=r"cpu|lab"):
            platform.fleet.resize(4)
        with pytest.raises(FleetError):
            platform.fleet.observe()

    def test_a_platform_that_is_busy(self, platform: Platform) -> None:
        before = platform.fleet.observe()
        with platform.busy():
            with pytest.raises(Busy, match="cpu"):
                platform.fleet.resize(4)
            assert platform.fleet.observe() == before
        assert platform.fleet.resize(4) == 4

    def test_a_platform_without_room(self, platform: Platform) -> None:
        before = platform.fleet.observe()
        platform.fill()
        with pytest.raises(NoCapacity, match="cpu"):
            platform.fleet.resize(4)
        assert platform.fleet.observe() == before
        # Whoever leaves needs no room.
        assert platform.fleet.resize(2, before.members[:1]) == 2
