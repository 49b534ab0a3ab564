"""The members of a group on this machine, for the scaler: units on disk and supervisord.

A member is a unit on disk. It was asked for when its unit was written and is told to leave when
its unit is removed, so a supervisord that starts anew has who shall be there and nobody else;
what supervisord runs follows. Every change is made under the lock that `perennial up` holds, and
one that was cut off is finished by the next one.
"""

from __future__ import annotations

import signal
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from perennial import sizes
from perennial.capacity import gib
from perennial.errors import Busy, FleetError, FleetMissing, NoCapacity, PerennialError
from perennial.files import write_atomic
from perennial.fleet import refusals
from perennial.lock import exclusive
from perennial.observation import Member, MemberState, Observation
from perennial.paths import ClusterPaths
from perennial.platforms.local import room
from perennial.platforms.local.layout import LocalHandle, programs
from perennial.platforms.local.machine import this_machine
from perennial.spec import ClusterSpec, load
from perennial.state import State, command
from perennial.supervision.program import Program
from perennial.supervision.single_instance import holder, signal_holder, standing_in
from perennial.supervision.supervisor import Process, Supervisor

#: Seconds that a group waits for the others of its cluster.
_TURN = 10.0
_turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)

_ABSENT = "{}: not on this machine; `perennial up -f FILE` makes it"
#: States in which a program has a process.
_UP = ("STARTING", "RUNNING", "STOPPING")


class LocalFleet:
    """The members of one group on this machine."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[LocalHandle]] = LocalHandle

    def __init__(self, root: str, group: str, python: str, fixed: bool = False) -> None:
        self.paths = ClusterPaths(Path(root))
        self.group = group
        self.python = python
        self.fixed = fixed

    # The contract

    def observe(self) -> Observation:
        """Look, in one consistent read; changes nothing."""
        units = self._units()
        supervisor = self._supervisor()
        while True:
            programs = self._programs_of(supervisor)
            again = self._units()
            if again == units:
                break
            units = again
        found = self._ours(programs)
        seen = (self._member(name, units, found) for name in {**units, **found})
        members = tuple(member for member in seen if member is not None)
        observation = Observation(
            desired=len(units),
            members=members,
            settled=len(members) == len(units)
            and all(member.state == "running" for member in members),
        )
        if self.fixed:
            return replace(observation, least=len(units), most=len(units))
        spec, names = self._spec(), self._names(programs)
        if self.group not in spec.workers:
            return replace(observation, most=len(units))
        holds, group = room.capacity(spec, this_machine()), spec.workers[self.group]
        more = holds.more(sizes.of_names(spec, names), sizes.of_member(group))
        idle = self._idle(spec, names)
        return replace(
            observation,
            most=len(units) + min(more, idle),
            room=f"this machine has {holds}",
            step=room.starting(group),
            utmost=len(units) + idle,
            beyond=f"as this machine's {gib(holds.memory)} hold {holds.most:,} idle workers in all;"
            " ask for fewer",
        )

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members; does not wait, see `perennial.fleet.Fleet`."""
        if self.fixed:
            return len(self._units())
        with self._alone(), refusals(f"{self.group}: "):
            supervisor = self._supervisor()
            try:
                return self._resize(supervisor, to, {member.id for member in leaving})
            except OSError as error:
                raise NoCapacity(
                    f"{self.group}: {error.filename or self.paths.root}: {error.strerror or error}"
                ) from error

    # What is there

    def _supervisor(self) -> Supervisor:
        supervisor = Supervisor(self.paths.socket)
        cluster = self.paths.root.name
        if not self.paths.spec.exists():
            raise FleetMissing(_ABSENT.format(cluster))
        if not self.paths.socket.exists() or not supervisor.pid():
            up = command("up", cluster)
            raise FleetMissing(f"{cluster}: supervisord does not run; {up} starts it")
        return supervisor

    def _units(self) -> dict[str, int]:
        """Numbers of the members that were asked for, by name, in order."""
        found = (self._number(path.stem) for path in self.paths.units.glob("*.conf"))
        return {f"{self.group}-{number}": number for number in sorted(n for n in found if n >= 0)}

    def _number(self, name: str) -> int:
        group, _, number = name.rpartition("-")
        return int(number) if group == self.group and number.isdecimal() else -1

    def _programs_of(self, supervisor: Supervisor) -> Mapping[str, Process]:
        """Look up all programs that supervisord knows, by name."""
        try:
            return supervisor.processes()
        except PerennialError as error:
            raise FleetError(f"{self.group}: {error}") from error

    def _ours(self, programs: Mapping[str, Process]) -> dict[str, Process]:
        """Choose those of the group, in order."""
        ours = [name for name in programs if self._number(name) >= 0]
        return {name: programs[name] for name in sorted(ours, key=self._number)}

    def _member(
        self, name: str, units: Mapping[str, int], found: Mapping[str, Process]
    ) -> Member | None:
        process = found.get(name)
        if name not in units:
            gone = process is None or not (process.alive or self._held(name))
            return None if gone else Member(name, name, "leaving")
        state: MemberState = "running" if process and process.state in _UP else "starting"
        return Member(name, name, state)

    def _held(self, name: str) -> int:
        """Process id of a member that runs, with or without supervisord."""
        return holder(self.paths.run / f"{name}.lock")[0]

    # Changes

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.paths.root.exists():
            raise FleetMissing(_ABSENT.format(self.paths.root.name))
        with ExitStack() as stack:
            # The groups of one scaler wait for each other; nobody waits for another process.
            if not (turn := _turns[self.paths.root]).acquire(timeout=_TURN):
                raise Busy(f"{self.group}: another group of this cluster is being sized")
            stack.callback(turn.release)
            try:
                stack.enter_context(exclusive(self.paths.lock, lambda _text: None, timeout=0.0))
            except (PerennialError, OSError) as error:
                raise Busy(f"{self.group}: {error}") from error
            yield

    def _resize(self, supervisor: Supervisor, to: int, leaving: Collection[str]) -> int:
        supervisor.reload()  # asked before anything stops: can it be carried out?
        units, found = self._units(), self._ours(self._programs_of(supervisor))
        gone = {name for name in units if name in leaving}
        staying = [name for name in units if name not in gone]
        # Only what has no process is given up; the newest first.
        down = [name for name in staying if name not in found or found[name].state not in _UP]
        gone |= set(down[::-1][: max(0, len(staying) - to)])
        staying = [name for name in staying if name not in gone]
        # The unit goes first: cut off here, the member still counts as told to leave.
        for name in gone:
            (self.paths.units / f"{name}.conf").unlink(missing_ok=True)
        left = self._stop_removed(supervisor, {n: p for n, p in found.items() if n not in staying})
        more = to - len(staying)
        if more > 0:
            more = min(more, self._idle(self._spec(), self._names(self._programs_of(supervisor))))
        new = self._programs(more, {*units.values(), *map(self._number, left)})
        for name, program in new.items():
            write_atomic(self.paths.units / f"{name}.conf", program.text)
        self._remember(len(staying) + len(new))
        supervisor.reload()
        known = {name: found[name] for name in found if name in staying}
        self._start_missing(supervisor, [*staying, *new], known)
        if len(staying) < to and not new and not gone:
            raise NoCapacity(
                f"{self.group}: {len(staying):,} members; this machine's memory holds at"
                f" most {this_machine().most:,} idle workers, and no more of this group"
            )
        return len(staying) + len(new)

    def _spec(self) -> ClusterSpec:
        try:
            return load(self.paths.spec, remembered=True)
        except (PerennialError, OSError) as error:
            raise FleetError(f"{self.group}: {error}") from error

    def _names(self, programs: Mapping[str, Process]) -> set[str]:
        """Name the services that run or have a unit."""
        running = {name for name, each in programs.items() if each.alive}
        return running | {path.stem for path in self.paths.units.glob("*.conf")}

    def _idle(self, spec: ClusterSpec, names: Collection[str]) -> int:
        """Count the further members that the memory holds as long as none has anything to do."""
        if self.group not in spec.workers:
            return 1  # the resize itself finds out
        free = this_machine().most - sizes.of_names(spec, names).processes
        return max(0, free) // spec.workers[self.group].processes

    def _stop_removed(self, supervisor: Supervisor, found: Mapping[str, Process]) -> set[str]:
        """Stop members that have no unit any more; forget and leave out what has stopped."""
        left = set()
        for name, process in found.items():
            held = self._held(name)
            if process.alive and process.state != "STOPPING":
                supervisor.signal_stop(name)
            elif not process.alive and held:
                # Whoever stood in for it went without passing the signal on.
                signal_holder(self.paths.run / f"{name}.lock", signal.SIGTERM)
            if process.alive or held:
                left.add(name)
                continue
            supervisor.remove(name)
            lock = self.paths.run / f"{name}.lock"
            lock.unlink(missing_ok=True)
            Path(standing_in(lock)).unlink(missing_ok=True)
        return left

    def _programs(self, number: int, taken: Collection[int]) -> dict[str, Program]:
        """Make the programs of new members, as `perennial up` would write them."""
        if number <= 0:
            return {}
        spec = load(self.paths.spec, remembered=True)
        if self.group not in spec.workers:
            plan = command("plan", spec.name)
            raise FleetMissing(f"{self.group}: no group of {spec.name}; {plan} says why")
        chosen = sizes.members(len(taken) + number, taken)
        fresh = {self.group: sorted(set(chosen) - set(taken))}
        found = programs(spec, self.paths, fresh, self.python)
        return {name: program for name, program in found.items() if program.group == self.group}

    def _remember(self, size: int) -> None:
        state = State.load(self.paths)
        if state.sizes.get(self.group) != size:
            replace(state, sizes={**state.sizes, self.group: size}).save(self.paths)

    def _start_missing(
        self, supervisor: Supervisor, names: Sequence[str], known: Mapping[str, Process]
    ) -> None:
        """Start members that have a unit and no process."""
        for name in names:
            if name not in known:
                supervisor.add(name)
            elif not known[name].alive:
                supervisor.start(name)
