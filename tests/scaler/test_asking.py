"""What is said to be wrong is what is wrong now."""

from __future__ import annotations

import asyncio

from perennial.errors import NoCapacity
from perennial.platforms.memory import MemoryFleet
from perennial.scaler.asking import SILENCE, Report
from perennial.scaler.fleet_client import FleetClient


def test_a_scaler_that_is_silent_says_nothing_of_the_work_of_now() -> None:
    latest = {"infeasible": ["60 tasks need FPGA: 1; no group has it"], "trouble": "a disk is full"}
    assert Report(latest, 1.0).wrong == (*latest["infeasible"], "a disk is full")
    [silence] = Report(latest, SILENCE + 1).wrong
    assert silence.startswith("the scaler has not answered for")


async def _refused() -> None:
    now = [0.0]
    memory = MemoryFleet("cpu")
    fleet = FleetClient("cpu", lambda: memory, lambda: now[0])
    memory.faults["resize"].append(NoCapacity("cpu: no room"))
    assert await fleet.resize(3) is None
    assert fleet.said == "cpu: no room"
    fleet.content()  # whoever wanted it has gone
    assert fleet.said == ""
    assert not fleet.free, "the pause goes on"


def test_what_a_platform_has_refused_is_no_trouble_once_nobody_wants_it() -> None:
    asyncio.run(_refused())
