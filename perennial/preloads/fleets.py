"""Bring the scaler and the keepers of the machines together. Given with ``--preload``.

On hosts nobody can start a member on another machine: no port is open for that, and no key of
SSH stands on the cluster. So a keeper on each machine asks here, over the cluster's own TLS, what
it shall run, and the scaler says so here. Operations of the scheduler:

``perennial_keep``
    A keeper tells what it has, and gets what is asked of it.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from distributed import Scheduler

#: Seconds without a word from a keeper after which its machine counts as silent.
SILENCE = 10.0
#: Machines and groups that are remembered.
MACHINES, GROUPS = 5000, 200
#: The largest number of a member.
NUMBERS = 100_000


def dask_setup(scheduler: Any) -> None:
    """Answer the keepers and the scaler."""
    if isinstance(scheduler, Scheduler):
        board = Mailbox(scheduler)
        scheduler.handlers["perennial_keep"] = board.exchange
        scheduler.handlers["perennial_fleet"] = board.fleet
        scheduler.handlers["perennial_size"] = board.size


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
    ask: dict[str, Any] | None = None
    #: ``room``, ``step`` and ``holds``: see
    #: `perennial.platforms.hosts.agent.reconciling.Keeper.step`.
    bounds: dict[str, Any] = field(default_factory=dict)


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
    """What the keepers have told, and what is asked of them."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.machines: dict[str, MachineReport] = {}
        self._started = monotonic()

    def exchange(
        self, machine: str, groups: Mapping[str, Mapping[str, Any]], trouble: str = ""
    ) -> dict[str, Any]:
        """Take what a keeper tells; give what is asked of it, by group."""
        if machine not in self.machines and len(self.machines) >= MACHINES:
            raise ValueError(f"{machine}: {MACHINES} machines have a keeper, the most allowed")
        if len(groups) > GROUPS:
            raise ValueError(f"{machine}: found {len(groups)} groups; allowed: {GROUPS}")
        now = monotonic()
        before = self.machines.get(machine)
        found = MachineReport(now, str(trouble))
        for name, told in groups.items():
            part = found.groups[name] = _group_report(told)
            old = before.groups.get(name) if before is not None else None
            # What was asked of a machine that was silent was not asked of what it has now.
            if before is None or old is None or _silent(before, now):
                continue
            if old.ask is not None and old.ask["id"] != told.get("done"):
                part.ask = old.ask
        self.machines[machine] = found
        return {name: part.ask for name, part in found.groups.items() if part.ask is not None}

    def fleet(self, group: str) -> dict[str, Any]:
        """Describe a group: how long the scheduler has run, and each machine that has told."""
        now = monotonic()
        own = {name: each for name, each in self.machines.items() if group in each.groups}
        silent = {f"{group}-{name}": name for name, each in own.items() if _silent(each, now)}
        registered = self._registered(silent) if silent else {}
        return {
            "uptime": now - self._started,
            "machines": {
                name: _described(machine, machine.groups[group], now)
                | ({"registered": registered[name]} if name in registered else {})
                for name, machine in own.items()
            },
        }

    def size(self, group: str, wanted: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
        """Ask machines for other members of a group; what was asked of them before is void."""
        now = monotonic()
        asks: list[tuple[GroupReport, dict[str, Any]]] = []
        for name, change in wanted.items():
            machine = self.machines.get(name)
            if machine is None or group not in machine.groups or _silent(machine, now):
                raise ValueError(f"{name}: its keeper does not answer; see whether it runs")
            part, want = machine.groups[group], _numbers(change["want"])
            given_up = set(_numbers(change.get("unstarted", ())))
            if part.ask is not None:  # not done yet: what it gave up may have started by then
                given_up |= set(part.ask["unstarted"]) - set(want)
            ask = {"id": uuid.uuid4().hex, "want": want, "unstarted": sorted(given_up)}
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


def _described(machine: MachineReport, part: GroupReport, now: float) -> dict[str, Any]:
    wanted = part.wanted if part.ask is None else part.ask["want"]
    bounds = dict(part.bounds)
    if "room" in bounds:  # what it was asked for since takes some of that
        bounds["room"] -= max(0, len(wanted) - len(part.wanted))
    return {
        **bounds,
        "wanted": wanted,
        "pending": part.ask is not None,
        "states": part.states,
        "most": part.most,
        "age": now - machine.reported_at,
        "trouble": machine.trouble,
    }


def _group_report(told: Mapping[str, Any]) -> GroupReport:
    states = {str(int(n)): str(state) for n, state in dict(told["states"]).items()}
    bounds: dict[str, Any] = {}
    if "holds" in told:
        holds = [int(number) for number in told["holds"]]
        bounds = {"room": int(told["room"]), "step": int(told["step"]), "holds": holds}
    return GroupReport(_numbers(told["wanted"]), states, int(told["most"]), bounds=bounds)


def _numbers(values: Any) -> list[int]:
    """Check numbers of members."""
    found = sorted(set(values))
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < NUMBERS:
            raise ValueError(
                f"member {value!r:.100}: allowed: a whole number from 0 to {NUMBERS - 1}"
            )
    return found
