"""Bring the scaler and the keepers of the machines together. Given with ``--preload``.

On hosts nobody can start a member on another machine: no port is open for that, and no key of
SSH stands on the cluster. So a keeper on each machine asks here, over the cluster's own TLS, what
it shall run, and the scaler says so here. Operations of the scheduler:

``perennial_keep``
    A keeper reports what it has, and gets what is asked of it.
``perennial_fleet``
    The scaler looks at a group.
``perennial_size``
    The scaler asks for other members of a group.

All is kept in memory. A keeper remembers on its own disk what it shall run, so a scheduler that
was restarted knows all again as soon as the keepers have asked; what was asked for and not yet
done is asked for again by the scaler.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from distributed import Scheduler

from perennial.preloads.messages import (
    Ask,
    FleetOnMachines,
    GroupOnMachine,
    KeptGroup,
    Resize,
)

#: Seconds without a word from a keeper after which its machine counts as silent.
SILENCE = 10.0
#: Machines and groups that are remembered.
MACHINES, GROUPS = 5000, 200
#: The largest number of a member.
NUMBERS = 100_000


def dask_setup(scheduler: Any) -> None:
    """Answer the keepers and the scaler."""
    if isinstance(scheduler, Scheduler):
        mailbox = Mailbox(scheduler)
        scheduler.handlers["perennial_keep"] = mailbox.exchange
        scheduler.handlers["perennial_fleet"] = mailbox.fleet
        scheduler.handlers["perennial_size"] = mailbox.size


@dataclass(frozen=True, slots=True)
class Room:
    """What a machine has for a group: `perennial.platforms.hosts.agent.reconciling.Keeper.step`."""

    room: int
    step: int
    holds: list[int]


@dataclass(slots=True)
class GroupReport:
    """What one machine has of one group."""

    #: Numbers of the members that its keeper keeps running.
    wanted: list[int] = field(default_factory=list)
    #: Members that are there: number and ``starting``, ``running`` or ``leaving``.
    states: dict[str, str] = field(default_factory=dict)
    #: How many it may have.
    most: int = 0
    #: What is asked of it and not done yet.
    ask: Ask | None = None
    #: What the machine has for it, where its keeper says so.
    room: Room | None = None


@dataclass(slots=True)
class MachineReport:
    """A machine as its keeper has described it."""

    #: When that was, monotonic.
    reported_at: float
    #: Why it cannot do what is asked of it; empty when it can.
    trouble: str = ""
    #: By group.
    groups: dict[str, GroupReport] = field(default_factory=dict)


class Mailbox:
    """The latest reports of the keepers, and what is asked of them."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.machines: dict[str, MachineReport] = {}
        self._started = monotonic()

    def exchange(
        self, machine: str, groups: Mapping[str, KeptGroup], trouble: str = ""
    ) -> dict[str, Ask]:
        """Take a keeper's report; return what is asked of it, by group."""
        if machine not in self.machines and len(self.machines) >= MACHINES:
            raise ValueError(f"{machine}: {MACHINES} machines have a keeper, the most allowed")
        if len(groups) > GROUPS:
            raise ValueError(f"{machine}: found {len(groups)} groups; allowed: {GROUPS}")
        now = monotonic()
        before = self.machines.get(machine)
        found = MachineReport(now, str(trouble))
        for name, report in groups.items():
            part = found.groups[name] = _group_report(report)
            old = before.groups.get(name) if before is not None else None
            # What was asked of a machine that was silent was not asked of what it has now.
            if before is None or old is None or _silent(before, now):
                continue
            if old.ask is not None and old.ask["id"] != report.get("done"):
                part.ask = old.ask
        self.machines[machine] = found
        return {name: part.ask for name, part in found.groups.items() if part.ask is not None}

    def fleet(self, group: str) -> FleetOnMachines:
        """Describe a group: how long the scheduler has run, and each machine that has reported."""
        now = monotonic()
        own = {name: each for name, each in self.machines.items() if group in each.groups}
        silent = {f"{group}-{name}": name for name, each in own.items() if _silent(each, now)}
        registered = self._registered(silent) if silent else {}
        machines = {name: _described(each, each.groups[group], now) for name, each in own.items()}
        for name, numbers in registered.items():
            machines[name]["registered"] = numbers
        return {"uptime": now - self._started, "machines": machines}

    def size(self, group: str, wanted: Mapping[str, Resize]) -> None:
        """Ask machines for other members of a group; what was asked of them before is void."""
        now = monotonic()
        asks: list[tuple[GroupReport, Ask]] = []
        for name, change in wanted.items():
            machine = self.machines.get(name)
            if machine is None or group not in machine.groups or _silent(machine, now):
                raise ValueError(f"{name}: its keeper does not answer; see whether it runs")
            part, want = machine.groups[group], _numbers(change["want"])
            given_up = set(_numbers(change.get("unstarted", ())))
            if part.ask is not None:  # not done yet: what it gave up may have started by then
                given_up |= set(part.ask["unstarted"]) - set(want)
            ask: Ask = {"id": uuid.uuid4().hex, "want": want, "unstarted": sorted(given_up)}
            asks.append((part, ask))
        for part, ask in asks:
            part.ask = ask

    def _registered(self, machines: Mapping[str, str]) -> dict[str, list[int]]:
        """Numbers of the members that the scheduler knows, by machine."""
        found: dict[str, set[int]] = {name: set() for name in machines.values()}
        for worker in self.scheduler.workers.values():
            said = worker.extra.get("perennial") or {}
            prefix, _, number = str(said.get("member", worker.name)).rpartition("-")
            if prefix in machines and number.isascii() and number.isdigit():
                found[machines[prefix]].add(int(number))
        return {name: sorted(numbers) for name, numbers in found.items()}


def _silent(machine: MachineReport, now: float) -> bool:
    return now - machine.reported_at >= SILENCE


def _described(machine: MachineReport, part: GroupReport, now: float) -> GroupOnMachine:
    wanted = part.wanted if part.ask is None else part.ask["want"]
    found: GroupOnMachine = {
        "wanted": wanted,
        "pending": part.ask is not None,
        "states": part.states,
        "most": part.most,
        "age": now - machine.reported_at,
        "trouble": machine.trouble,
    }
    if (has := part.room) is not None:
        # What it was asked for since takes some of that.
        found["room"] = has.room - max(0, len(wanted) - len(part.wanted))
        found["step"], found["holds"] = has.step, has.holds
    return found


def _group_report(report: KeptGroup) -> GroupReport:
    states = {str(int(n)): str(state) for n, state in dict(report["states"]).items()}
    room = None
    if "holds" in report:
        holds = [int(number) for number in report["holds"]]
        room = Room(int(report["room"]), int(report["step"]), holds)
    return GroupReport(_numbers(report["wanted"]), states, int(report["most"]), room=room)


def _numbers(values: Any) -> list[int]:
    """Check numbers of members."""
    found = sorted(set(values))
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < NUMBERS:
            raise ValueError(
                f"member {value!r:.100}: allowed: a whole number from 0 to {NUMBERS - 1}"
            )
    return found
