"""The fleet of a group on hosts: its members on all machines, sized through their keepers.

The scheduler's preload `perennial.preloads.fleets` stands between the two; who leaves is chosen by
the caller, where new members come by this module: on the machine with the fewest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from perennial.capacity import Capacity
from perennial.errors import Busy, FleetError, FleetMissing, NoCapacity
from perennial.fleet import Handle, refusals
from perennial.observation import Member, MemberState, Observation
from perennial.preloads import messages
from perennial.scheduler_connection import shared
from perennial.tls import Tls

#: Seconds in which the scheduler must answer.
ANSWER = 10.0
#: Seconds after the scheduler's start in which every keeper must have reported.
GATHERING = 30.0
#: Machines that are named with what they hold.
NAMED = 3

#: What ends a refusal of more members than the machines may start.
BEYOND = (
    "the scale.max that its machines were deployed with; raise it in the cluster file, then run"
    " `perennial up` or `pulumi up`"
)

#: A member's place: the machine and its number there.
MemberPlace = tuple[str, int]


@dataclass(frozen=True, slots=True)
class GroupOnMachine:
    """What one machine has of a group."""

    #: Numbers that it runs, or has been asked to.
    wanted: frozenset[int]
    #: What is there.
    states: Mapping[int, MemberState]
    #: How many it may have.
    most: int
    #: Whether it has still to do what was asked of it.
    pending: bool = False
    #: Why nothing can be asked of it now; empty when it can.
    trouble: str = ""
    #: Whether its keeper has not reported of late.
    away: bool = False
    #: How many more it holds, for what they may use; None where it has not said so.
    room: int | None = None
    #: How many it starts at a time.
    step: int | None = None
    #: What it has.
    holds: Capacity | None = None

    @property
    def used(self) -> set[int]:
        """Numbers that no new member can have."""
        return {*self.wanted, *self.states}

    @property
    def free(self) -> list[int]:
        """Numbers for new members."""
        return [number for number in range(self.most) if number not in self.used]

    @property
    def largest(self) -> int:
        """How many it holds, for what they may use."""
        most = max(self.most, len(self.wanted))
        return most if self.room is None else min(most, len(self.wanted) + max(0, self.room))

    def is_full(self, size: int) -> bool:
        """Whether it holds fewer than so many, for what they may use."""
        return self.room is not None and size >= len(self.wanted) + self.room


class HostsHandle(Handle):
    """How a scaler reaches the members of a group on all machines."""

    group: str
    """Its name."""
    machines: dict[str, int]
    """How many members each machine may have."""
    scheduler: str
    """Address of the scheduler, which stands between the scaler and the keepers."""
    tls: Tls | None
    """The scaler's certificate; None without TLS."""


class HostsFleet:
    """The members of one group on machines that have a keeper."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[HostsHandle]] = HostsHandle

    def __init__(
        self,
        group: str,
        machines: Mapping[str, int],
        scheduler: str,
        tls: Tls | None = None,
    ) -> None:
        self.group = group
        self.machines = dict(machines)
        self._scheduler = scheduler
        self._tls = tls

    def observe(self) -> Observation:
        """Read the latest reports of the keepers; changes nothing.

        A machine whose keeper is silent is counted with those of its members that the
        scheduler still knows: they work, but nothing can be asked of them. The others of it are
        gone, and so is its room for more, until its keeper is back.
        """
        machines = self._look()
        steps = [one.step for one in machines.values() if one.step is not None and not one.away]
        members = tuple(
            self._member(name, one, number)
            for name, one in machines.items()
            for number in sorted(one.used)
        )
        return Observation(
            desired=sum(len(one.wanted) for one in machines.values()),
            members=members,
            settled=not any(one.pending or one.away for one in machines.values())
            and len(machines) == len(self.machines)
            and all(member.state == "running" for member in members),
            most=sum(one.largest for one in machines.values()),
            room=_who_has({name: one.holds for name, one in machines.items() if one.holds}),
            step=sum(steps) if steps else None,
            utmost=sum(self.machines.values()),
            beyond=BEYOND,
        )

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members, see `perennial.fleet.Fleet`."""
        with refusals():
            return self._resize(to, leaving)

    # Inside

    def _resize(self, to: int, leaving: Sequence[Member]) -> int:
        machines = self._look()
        places = {self._place(member.id) for member in leaving}
        change = planned(machines, to, {place for place in places if place is not None})
        if change.stuck and not change.wants:
            machine = min(change.stuck)
            raise Busy(f"{self.group} on {machine}: {machines[machine].trouble}")
        if change.wants:
            wanted = {
                name: {"want": sorted(want), "unstarted": sorted(change.unstarted.get(name, ()))}
                for name, want in change.wants.items()
            }
            self._ask("perennial_size", group=self.group, wanted=wanted)
        size = sum(len(change.wants.get(name, one.wanted)) for name, one in machines.items())
        if size < to and not change.grown:
            raise self._full(machines, size)
        return size

    def _full(self, machines: Mapping[str, GroupOnMachine], size: int) -> FleetError:
        away = [name for name in self.machines if name not in machines or machines[name].trouble]
        leaving = any(one.used - one.wanted for one in machines.values())
        if away or leaving:
            why = f"waits for {', '.join(away)}" if away else "waits for those that leave"
            return Busy(f"{self.group}: no room for more than {size} members now; {why}")
        return NoCapacity(
            f"{self.group}: the machines have no room for more than {size} members; raise"
            " scale.max, or give the group more machines"
        )

    def _look(self) -> dict[str, GroupOnMachine]:
        """Read what every machine has; those that are gone with all their members are left out."""
        answer = self._ask("perennial_fleet", group=self.group)
        if answer is None:
            raise FleetMissing(
                f"{self.group}: the scheduler runs without `--preload perennial.preloads.fleets`;"
                " `perennial up` or `pulumi up` starts it with that"
            )
        reports, found = answer["machines"], {}
        unheard = [name for name in self.machines if name not in reports]
        if unheard == list(self.machines) and answer["uptime"] >= GATHERING:
            raise FleetMissing(
                f"{self.group}: no keeper has asked the scheduler about it; see whether they run"
                " on the machines, or run `perennial up` or `pulumi up`"
            )
        if unheard and answer["uptime"] < GATHERING:
            raise FleetError(
                f"{self.group}: the keeper of {', '.join(unheard)} has not asked the scheduler"
                f" since that started, {answer['uptime']:.0f} s ago; see whether it runs"
            )
        for name in self.machines:
            if name in reports:
                here = read(reports[name])
                if here is not None:
                    found[name] = here
        return found

    def _member(self, machine: str, group: GroupOnMachine, number: int) -> Member:
        state: MemberState = group.states.get(number, "starting")
        if number not in group.wanted:
            state = "leaving"
        elif state == "leaving":
            state = "starting"  # it is being restarted
        worker = f"{self.group}-{machine}-{number}"
        return Member(f"{machine}/{self.group}@{number}", worker, state)

    def _place(self, member: str) -> MemberPlace | None:
        """Say where a member is; None for what is called like none of ours."""
        found = re.fullmatch(rf"([a-z0-9-]+)/{re.escape(self.group)}@([0-9]+)", member)
        return (found[1], int(found[2])) if found else None

    def _ask(self, operation: str, **arguments: Any) -> Any:
        try:
            return shared(self._scheduler, self._tls).ask(operation, ANSWER, **arguments)
        except (OSError, TimeoutError) as error:
            why = f" ({error})" if str(error) else ""
            raise FleetError(
                f"{self.group}: the scheduler at {self._scheduler} has not answered within"
                f" {ANSWER:g} s{why}"
            ) from None
        except ValueError as error:  # the scheduler has refused
            raise Busy(f"{self.group}: {error}") from None


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be asked of machines."""

    #: Numbers from now on, by machine; of those that change.
    wants: Mapping[str, set[int]]
    #: Numbers that are given up unless they run by now.
    unstarted: Mapping[str, set[int]]
    #: Whether there is any new member.
    grown: bool = False
    #: Machines of which nothing can be asked and whose members should leave; they still count.
    stuck: frozenset[str] = frozenset()


def planned(
    machines: Mapping[str, GroupOnMachine], to: int, leaving: Iterable[MemberPlace]
) -> Change:
    """Choose who comes and who goes. Pure.

    Those that leave are removed; of the others only what has not started is given up, on the
    machine with the most first; new ones come where there are fewest, under the lowest numbers
    that are free; to a machine beyond what it holds only when there is no other.
    """
    now = {name: set(one.wanted) for name, one in machines.items()}
    unstarted: dict[str, set[int]] = {}
    here = {(machine, number) for machine, number in leaving if number in now.get(machine, ())}
    stuck = {(machine, number) for machine, number in here if machines[machine].trouble}
    for machine, number in here - stuck:
        now[machine].discard(number)
    size = sum(map(len, now.values()))
    names = list(now)
    while size - len(stuck) > to:  # a member that cannot leave yet is not replaced by another
        idle = {name: _unstarted(machines[name], now[name]) for name in reversed(names)}
        name = max((n for n in idle if idle[n]), key=lambda n: len(now[n]), default=None)
        if name is None:
            break
        number = max(idle[name])
        now[name].discard(number)
        unstarted.setdefault(name, set()).add(number)
        size -= 1
    grown = False
    free = {name: machines[name].free if not machines[name].trouble else [] for name in names}
    while size < to and any(free.values()):
        name = min(
            (name for name in names if free[name]),
            key=lambda name: (machines[name].is_full(len(now[name])), len(now[name])),
        )
        now[name].add(free[name].pop(0))
        size, grown = size + 1, True
    wants = {name: want for name, want in now.items() if want != machines[name].wanted}
    return Change(wants, unstarted, grown, frozenset(machine for machine, _ in stuck))


def read(report: messages.GroupOnMachine) -> GroupOnMachine | None:
    """Read the report of a machine's keeper; None when it and all its members are gone."""
    wanted = frozenset(report["wanted"])
    if "registered" not in report:
        states = {int(number): state for number, state in report["states"].items()}
        holds = Capacity(*report["holds"]) if "holds" in report else None
        return GroupOnMachine(
            *(wanted, states, report["most"], report["pending"], report["trouble"]),
            room=report.get("room"),
            step=report.get("step"),
            holds=holds,
        )
    left = frozenset(report["registered"])
    if not left:
        return None
    why = f"its keeper has not asked the scheduler for {report['age']:.0f} s; see whether it runs"
    # Whatever was asked of it and not done is void; what still works there is what there is.
    return GroupOnMachine(left, dict.fromkeys(left, "running"), 0, trouble=why, away=True)


def _who_has(machines: Mapping[str, Capacity]) -> str:
    """Say what machines hold: the first ones, and how many more there are."""
    named = [f"{name} has {holds}" for name, holds in list(machines.items())[:NAMED]]
    more = len(machines) - len(named)
    return "; ".join([*named, *([f"and {more} more machines"] if more else [])])


def _unstarted(group: GroupOnMachine, now: set[int]) -> set[int]:
    if group.trouble:
        return set()
    return {n for n in now if group.states.get(n, "starting") != "running"}
