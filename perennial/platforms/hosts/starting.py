"""Start a machine's services in steps, so that it keeps answering."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from perennial.capacity import MachineResources, gib, starting
from perennial.errors import FleetError
from perennial.platforms.hosts.desired_state import DesiredMember
from perennial.platforms.hosts.remote import Agent

#: Seconds in which a machine without free memory must have some for a member.
TIMEOUT = 60.0


def start_in_steps(
    agent: Agent, units: Sequence[str], members: Mapping[str, DesiredMember], targets: Sequence[str]
) -> None:
    """Start units; each step waits until the one before is ready, other services come first."""
    left = sorted(units, key=lambda unit: members[unit].processes > 0)
    while True:
        some = left[: _now(agent, [members[unit].processes for unit in left])]
        agent.ask("systemd_start", units=some, targets=list(targets), wait=True)
        left, targets = left[len(some) :], ()
        if not left:
            return


def batch(processes: Sequence[int], now: MachineResources) -> int:
    """Count the units, by their worker processes, that a machine may start at a time. Pure."""
    begun = 0
    for number, each in enumerate(processes):
        if each and not starting(now, each, begun):
            return number
        begun += each
    return len(processes)


def _now(agent: Agent, processes: Sequence[int]) -> int:
    """Wait until a machine may start some; returns how many."""
    if not any(processes):
        return len(processes)
    end = time.monotonic() + TIMEOUT
    while not (some := batch(processes, now := MachineResources(**agent.ask("machine")))):
        if time.monotonic() > end:
            raise FleetError(
                f"{agent.name}: no member is started while {gib(now.available)} of"
                f" {gib(now.memory)} of memory are free, since {TIMEOUT:g} s; free some there, or"
                " lower count or memory, and run the same command again"
            )
        time.sleep(1.0)
    return some
