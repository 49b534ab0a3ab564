"""Drains of members that the scheduler does not know any more, as after its own restart."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.scaler.drain import Drain, Drains, Who
from perennial.scaler.timing import ABSENT, PARK, SETTLED
from perennial.scaler.workers import PARKED, RUNNING, Found, Left
from tests.examples import examples

WHO = ("cpu", "cpu-0")
#: Seconds between two rounds.
STEP = 1.0
#: Seconds in which a drain of an empty member that is there has come to its end.
SOON = PARK + SETTLED + 5 * STEP


class World:
    """A scheduler and one member with nothing to do, whose process is another at each start."""

    def __init__(self) -> None:
        self.now = 0.0
        self.statuses: dict[str, str] = {"at-0": RUNNING}
        self.starts = 0
        self.absent: float | None = None
        self.drains = Drains(self, lambda: self.now)

    async def find(self, who: Collection[Who]) -> dict[Who, Found]:
        return {each: Found(dict(self.statuses)) for each in who if self.statuses}

    async def park(self, addresses: Collection[str]) -> dict[str, list[str]]:
        here = self.statuses.keys() & addresses
        self.statuses.update(dict.fromkeys(here, PARKED))
        return {at: [] for at in here}

    async def unpark(self, addresses: Collection[str]) -> None:
        self.statuses.update(dict.fromkeys(self.statuses.keys() & addresses, RUNNING))

    async def move(self, addresses: Collection[str]) -> frozenset[str]:
        return frozenset(addresses)

    async def left(self, addresses: Collection[str], leaving: Collection[str]) -> dict[str, Left]:
        return {at: Left() for at in addresses if at in self.statuses}

    async def hasten(self, addresses: Collection[str], seconds: float | None) -> None: ...

    def restart(self) -> None:
        """Restart the scheduler: the member's process ends with the connection."""
        self.statuses, self.absent = {}, self.now
        self.drains.again()

    def register(self) -> None:
        """Have the member come back, as a new process that runs."""
        if not self.statuses:
            self.starts += 1
            self.statuses, self.absent = {f"at-{self.starts}": RUNNING}, None

    async def wait(self, seconds: float) -> None:
        """Take rounds for some time."""
        for _ in range(int(seconds / STEP) + 1):
            self.now += STEP
            await self.drains.round()
            await self.drains.confirm(WHO[0])  # as before each removal
            self.check()

    def check(self) -> None:
        """Assert that whoever may be removed is empty: parked, or away for long."""
        drain = self.drains.drains.get(WHO)
        if drain is None or not self.drains.tracker.drained(drain):
            return
        assert set(self.statuses.values()) <= {PARKED}
        assert self.absent is None or self.now - self.absent >= ABSENT

    async def take(self, step: str, pause: float) -> None:
        """Take a step of its life."""
        if step == "restart":
            self.restart()
        elif step == "register":
            self.register()
        elif step == "drain" and WHO not in self.drains.drains:
            self.drains.begin(Drain(*WHO, self.now, deadline=600.0, on_deadline="wait"))
        elif step == "back":
            self.drains.bring_back([WHO])
        await self.wait(pause if step == "wait" else 0.0)


steps = st.lists(
    st.sampled_from(["restart", "register", "drain", "back", "wait"]), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=examples(200))
@given(steps, st.floats(0.0, 2 * ABSENT), st.sampled_from(["stays away", "comes back"]))
def test_who_is_away_is_either_back_or_gone(taken: list[str], pause: float, end: str) -> None:
    """However drains, returns and restarts come: in the end no member is left in between."""

    async def live() -> None:
        world = World()
        for step in taken:
            await world.take(step, pause)
        draining = WHO in world.drains.drains
        if end == "comes back":
            world.register()
        elif world.statuses:
            world.restart()
        await world.wait(max(SOON, ABSENT))
        assert not world.drains.returning
        if draining:  # ready: its platform removes it
            assert world.drains.ready("cpu").keys() == {"cpu-0"}
        elif world.statuses:
            assert set(world.statuses.values()) == {RUNNING}

    asyncio.run(live())
