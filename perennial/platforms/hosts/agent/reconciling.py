"""Reconciles the members that run on a machine with those that shall run. No network.

The numbers that it shall run stand in one file, which is written before anything is done about
them. Everything else follows from comparing that file with what runs, again and again: a keeper
that was killed anywhere ends what it had begun.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from perennial.capacity import Capacity, MachineResources, Use, starting, total
from perennial.errors import Busy, PerennialError
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.agent.machine import this_machine

if TYPE_CHECKING:
    from perennial.preloads.messages import KeeperReport, KeptGroup

logger = logging.getLogger("perennial.keeper")

State = Literal["starting", "running", "leaving"]
#: Group → number → state, of what is there.
States = Mapping[str, Mapping[int, State]]

#: Longest message in bytes: the numbers of some ten thousand members.
LONGEST = 2**16
#: Asks for nothing.
NOTHING = b"{}"
#: Seconds in which a member that was started counts as on its way, unless it runs before; and
#: those in which it must be seen at all.
ON_ITS_WAY, UNSEEN = 60.0, 5.0
_ID = re.compile(r"[0-9a-zA-Z-]{1,64}")


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a group."""

    #: Its name, by which the scheduler recognises it once it is done.
    id: str
    #: Numbers of the members from now on.
    want: frozenset[int]
    #: Numbers which are given up unless they are running by now.
    unstarted: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a machine's members may use, and what else stands there."""

    #: What a member of each group may use; also of groups that the keeper does not keep.
    uses: Mapping[str, Use]
    #: Bytes of memory that the cluster's other services there may use.
    services: int = 0
    #: Looks at the machine.
    look: Callable[[], MachineResources] = this_machine


class Units(Protocol):
    """The members of a machine's groups, under its service manager."""

    def states(self) -> dict[str, dict[int, State]]:
        """Look what is there; a member that does not run and is not about to is not."""
        ...

    def start(self, group: str, numbers: Collection[int]) -> None:
        """Start members; does not wait."""
        ...

    def stop(self, group: str, numbers: Collection[int]) -> None:
        """Have members drain and stop; does not wait."""
        ...


class Keeper:
    """Keeps the members of a machine's groups running that it shall have."""

    def __init__(
        self, most: Mapping[str, int], file: Path, lock: Path, units: Units, bounds: Bounds
    ) -> None:
        self.most = dict(most)
        self.units = units
        self.bounds = bounds
        #: Why it cannot act; empty when it can.
        self.trouble = ""
        self._file = file
        self._lock = lock
        self._done: dict[str, str] = {}
        self._begun: dict[tuple[str, int], float] = {}

    def step(self, asks: Mapping[str, Ask] | None = None) -> dict[str, KeptGroup]:
        """Take up what is asked, bring what runs into line, and describe what there is."""
        machine = self.bounds.look()
        try:
            with alone(self._lock):
                states = self.units.states()
                wanted = self._taken(asks or {}, self._remembered(states), states)
                if self._mend(wanted, states, machine):
                    states = self.units.states()
            self.trouble = ""
        except (PerennialError, OSError) as error:
            if str(error) != self.trouble:
                logger.warning("nothing is changed now: %s", error)
            self.trouble = str(error)
            states = self.units.states()
            wanted = self._known(states)
        holds = Capacity(machine.cores, machine.memory, self.bounds.services)
        used, uses = used_by(self.bounds.uses, wanted, states), self.bounds.uses
        return {
            group: {
                "wanted": sorted(wanted.get(group, ())),
                "states": {str(n): state for n, state in states.get(group, {}).items()},
                "most": most,
                "done": self._done.get(group),
                "room": holds.more(used, uses[group]),
                "step": starting(machine, uses[group].processes),
                "holds": [holds.cores, holds.memory, holds.services],
            }
            for group, most in self.most.items()
        }

    def _known(self, states: States) -> dict[str, set[int]]:
        """Return what shall run, as far as it can be read."""
        try:
            return self._remembered(states)
        except (PerennialError, OSError):
            return self._running(states)

    def _remembered(self, states: States) -> dict[str, set[int]]:
        """Read what shall run; where nothing says so, it is what runs."""
        found, running = manifest.remembered(self._file), self._running(states)
        return {group: set(found.get(group, running[group])) for group in self.most}

    def _running(self, states: States) -> dict[str, set[int]]:
        return {
            group: {n for n, state in states.get(group, {}).items() if state != "leaving"}
            for group in self.most
        }

    def _taken(
        self, asks: Mapping[str, Ask], wanted: dict[str, set[int]], states: States
    ) -> dict[str, set[int]]:
        """Write down what is asked, group by group; what is not ours to do is refused."""
        for group, ask in asks.items():
            try:
                now = answer(group, ask, self.most, wanted.get(group, set()), states)
            except ValueError as error:
                logger.warning("refused: %s", error)
            else:
                if now != wanted[group]:
                    logger.info("%s: %s instead of %s", group, _listed(now), _listed(wanted[group]))
                    wanted = {**wanted, group: now}
                    manifest.remember(self._file, wanted)
            if group in self.most:
                self._done[group] = ask.id
        return wanted

    def _mend(
        self, wanted: Mapping[str, set[int]], states: States, machine: MachineResources
    ) -> bool:
        """Start and stop what differs, few at a time; say whether anything did."""
        acted, now = False, time.monotonic()
        self._begun = on_their_way(self._begun, states, now)
        begun = sum(self.bounds.uses[group].processes for group, _ in self._begun)
        for group in self.most:
            start, stop = compare(wanted[group], states.get(group, {}))
            each = self.bounds.uses[group].processes
            start = [number for number in start if (group, number) not in self._begun]
            start = start[: starting(machine, each, begun)]
            begun += each * len(start)
            # New members come before old ones go, so that data has somewhere to go.
            if start:
                logger.info("%s: starting %s", group, _listed(start))
                self.units.start(group, start)
                self._begun |= dict.fromkeys(((group, number) for number in start), now)
            if stop:
                logger.info("%s: stopping %s", group, _listed(stop))
                self.units.stop(group, stop)
            acted = acted or bool(start or stop)
        return acted


def on_their_way(
    begun: Mapping[tuple[str, int], float], states: States, now: float
) -> dict[tuple[str, int], float]:
    """Keep of the members that were started, and when, those that are still starting. Pure."""
    allowed = {"starting": ON_ITS_WAY, None: UNSEEN}
    return {
        (group, number): since
        for (group, number), since in begun.items()
        if now - since < allowed.get(states.get(group, {}).get(number), 0.0)
    }


def used_by(uses: Mapping[str, Use], wanted: Mapping[str, Collection[int]], states: States) -> Use:
    """Add up what all members of a machine may use that run or shall. Pure."""
    return total(
        each * len({*wanted.get(group, ()), *states.get(group, {})}) for group, each in uses.items()
    )


def compare(wanted: Collection[int], now: Mapping[int, State]) -> tuple[list[int], list[int]]:
    """Say which members are to be started, and which stopped. Pure."""
    start = sorted(set(wanted) - set(now))
    stop = sorted(n for n, state in now.items() if n not in wanted and state != "leaving")
    return start, stop


def answer(
    group: str,
    ask: Ask,
    most: Mapping[str, int],
    wanted: Collection[int],
    states: States,
) -> set[int]:
    """Find out which members shall run once an ask has been done. Pure."""
    if group not in most:
        raise ValueError(f"group {group!r:.100}: allowed: {', '.join(most)}")
    there = {*wanted, *states.get(group, {})}
    # What is above the maximum because that was lowered stays until the scaler lets it go.
    beyond = sorted(number for number in ask.want - there if number >= most[group])
    if beyond:
        raise ValueError(f"{group}: found member {beyond[0]}; allowed: below {most[group]}")
    running = {n for n, state in states.get(group, {}).items() if state == "running"}
    return set(ask.want | (ask.unstarted & running & set(wanted)))


def respond(own: Keeper, message: bytes) -> KeeperReport:
    """Do what a message asks; return the report for the scheduler: ``groups`` and ``trouble``."""
    try:
        asks = asked(message, own.most)
    except ValueError as error:
        raise PerennialError(f"refused: {error}") from None
    return {"groups": own.step(asks), "trouble": own.trouble}


def asked(message: bytes, groups: Collection[str]) -> dict[str, Ask]:
    """Read what is asked of each group; whoever has sent it may run anybody's code. Pure."""
    if len(message) > LONGEST:
        raise ValueError(f"found a message of {len(message)} bytes; allowed: up to {LONGEST}")
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise ValueError("found a message which is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"found {type(found).__name__}; allowed: an object with an ask by group")
    for group in found:
        if group not in groups:
            raise ValueError(f"found group {group!r:.100}; allowed: {', '.join(groups)}")
    return {group: _ask(group, each) for group, each in found.items()}


def _ask(group: str, each: Any) -> Ask:
    if not isinstance(each, dict) or set(each) != {"id", "want", "unstarted"}:
        raise ValueError(f"{group}: found {each!r:.100}; allowed: exactly id, want and unstarted")
    name, want, unstarted = each["id"], each["want"], each["unstarted"]
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise ValueError(f"{group}: found id {name!r:.100}; allowed: up to 64 letters and digits")
    for numbers in (want, unstarted):
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise ValueError(f"{group}: found {numbers!r:.100}; allowed: a list of whole numbers")
    return Ask(
        name,
        frozenset(manifest.checked_numbers(want)),
        frozenset(manifest.checked_numbers(unstarted)),
    )


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Let no deploy change the machine meanwhile."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        is_ours = False
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever removes the cluster takes the lock's file away, and this is the old one then.
            is_ours = os.path.samestat(os.fstat(handle), os.stat(lock))
        if not is_ours:
            raise Busy("a deploy is at work there; it is tried again once that has ended")
        yield
    finally:
        os.close(handle)


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"
