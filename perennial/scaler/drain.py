"""Drain members before their platform removes them, and undo that where they are needed again.

All drains go on together, in rounds. A round parks what is to be parked, has the scheduler move
data away, and looks at what is left; it asks the scheduler a few questions, however many members
drain. A member is ready once nothing runs there and nobody counts on it for any key: then its
platform can remove it without loss. Nobody is ever removed here.

A drain is undone as Dask gives up a retirement: the worker is told to run again. It keeps its
process, its data and its name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from perennial.preloads.drain import listed
from perennial.scaler import timing
from perennial.scaler.drain_state import Drain
from perennial.scaler.life import Event, State
from perennial.scaler.members import Life, MemberTracker
from perennial.scaler.values import PARKED
from perennial.scaler.workers import RUNNING, Found, Who, Workers

logger = logging.getLogger("perennial.scaler.drain")

#: Dask's words for a worker that is about to end: it begins no tasks, and may never answer.
ENDING = frozenset({"closing", "closed", "failed"})


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to the processes of a member, at their addresses."""

    addresses: frozenset[str]
    task: asyncio.Task[Any]


class Drains:
    """Works on all drains that go on, and on members on their way back, as the tracker has them."""

    def __init__(
        self,
        workers: Workers,
        clock: Callable[[], float],
        tracker: MemberTracker | None = None,
    ) -> None:
        self.workers = workers
        self.clock = clock
        self.tracker = tracker or MemberTracker()
        #: Why the last round could not be completed.
        self.trouble = ""
        #: Set when a drain has become ready or is given up, or a member is back.
        self.news = asyncio.Event()
        self._moves: dict[frozenset[str], asyncio.Task[frozenset[str]]] = {}
        #: Calls under way to park workers, or to have them begin tasks again.
        self._told: dict[Who, _Call] = {}
        self._waited = 0.0  # seconds of a round that cost the scheduler nothing
        self._begun = asyncio.Event()

    @property
    def drains(self) -> dict[Who, Drain]:
        """The drains that go on, and those that are complete."""
        return self.tracker.drains()

    @property
    def returning(self) -> dict[Who, Life]:
        """The members on their way back."""
        return self.tracker.returning()

    def begin(self, drain: Drain) -> None:
        """Begin a drain, or go on with one that a scaler before this one has begun."""
        self.tracker.drain(drain)
        self._begun.set()

    def of(self, group: str) -> dict[str, Drain]:
        """List the drains of a group, by worker name."""
        return {name: each for (where, name), each in self.drains.items() if where == group}

    def ready(self, group: str) -> dict[str, Drain]:
        """List the drains of a group whose members its platform can remove, by worker name."""
        return {name: each for name, each in self.of(group).items() if self.tracker.drained(each)}

    def bring_back(self, who: Iterable[Who]) -> None:
        """Undo drains."""
        for each in who:
            if self.tracker.of(each).state is not State.RETURNING:
                self.tracker.take(each, Event.UNDO)
        self._begun.set()

    def again(self) -> None:
        """Begin all drains anew, with the time that they have had: the scheduler is another one."""
        for drain in self.drains.values():
            drain.addresses, drain.absent = frozenset(), None
            self.tracker.empty(drain, False)

    async def confirm(self, group: str) -> None:
        """Look once more at the drained members of a group; who has something again is not drained.

        Between a round and a removal a worker can have been restarted, or a shuffle begun.
        """
        ready = [each for each in self.ready(group).values() if not each.given_up]
        if not ready:
            return
        found = await self.workers.find([each.who for each in ready])
        leaving = {at for drain in self.drains.values() for at in drain.addresses}
        here = {at for each in found.values() for at in each.addresses}
        left = await self.workers.left(here, leaving | here) if here else {}
        for drain in ready:
            statuses = found.get(drain.who, Found()).statuses
            known = [left[at] for at in statuses if at in left]
            same = statuses.keys() <= drain.addresses and set(statuses.values()) <= {PARKED}
            if not same or any(each.tasks or each.unique or each.needed for each in known):
                self.tracker.empty(drain, False)
                logger.info("%s: is not drained any more; its drain goes on", drain.member)

    async def run(self) -> None:
        """Do the rounds, as long as there is something to do; for ever."""
        while True:
            if not (self.drains or self.returning):
                self._begun.clear()
                await self._begun.wait()
            self._begun.clear()
            begun, self._waited = monotonic(), 0.0
            try:
                await self.round()
                self.trouble = ""
            except Exception as error:  # nothing is removed; tried again
                usual = isinstance(error, OSError | KeyError)
                logger.log(logging.DEBUG if usual else logging.ERROR, "a round failed: %r", error)
                self.trouble = f"drains are held up: {error!r}"
            drained = self.tracker.drained
            waits = all(drain.tasks or drained(drain) for drain in self.drains.values())
            pause = timing.SLOW if waits and not self.returning else timing.QUICK
            longest = timing.SLOW if self.returning else timing.LONGEST
            with suppress(TimeoutError):
                spent = monotonic() - begun - self._waited
                async with asyncio.timeout(max(pause, min(spent / timing.SHARE, longest))):
                    await self._begun.wait()

    async def close(self) -> None:
        """Stop asking; the scheduler goes on with what it moves."""
        tasks = [*self._moves.values(), *(call.task for call in self._told.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._told.clear()

    async def round(self) -> None:
        """Take one step in each drain."""
        found = await self.workers.find([*self.drains, *self.returning])
        self._reap()
        self._hang_up(found)
        await self._return(found)
        drains = [each for each in self.drains.values() if not self.tracker.drained(each)]
        if not drains:
            return
        for drain in drains:
            self._locate(drain, found.get(drain.who, Found()))
        await self._park(drains)
        self._move(drains)
        await self._look(drains)
        for drain in drains:
            if self.tracker.going(drain):
                await self._judge(drain)

    def _locate(self, drain: Drain, found: Found) -> None:
        """Find the member's processes; those that were restarted are drained anew."""
        if found.addresses != drain.addresses:
            drain.addresses = found.addresses
            drain.parked = drain.settled = drain.refused = drain.silent = None
            drain.moved = frozenset()
            drain.running, drain.left = {}, {}
        now = self.clock()
        drain.absent = None if found.addresses else drain.absent or now
        if any(word != PARKED for word in found.statuses.values()):
            drain.parked = None
            if drain.resumed:
                drain.since = now  # it worked while there was no scaler: nothing was waited for
        drain.resumed = drain.resumed and not found.addresses
        drain.ending = not ENDING.isdisjoint(found.statuses.values())

    def _hang_up(self, found: Mapping[Who, Found]) -> None:
        """Wait no longer for processes that are gone: Dask tries to reach an address for long."""
        for who, call in list(self._told.items()):
            if not call.addresses <= found.get(who, Found()).addresses:
                call.task.cancel()
                del self._told[who]

    async def _park(self, drains: Collection[Drain]) -> None:
        """Park those that are not, and look again at those that seem to have ended their tasks."""
        now = self.clock()
        for drain in drains:
            if drain.addresses and drain.who not in self._told and _to_park(drain, now):
                self._tell(drain.who, drain.addresses, self._park_one(drain, drain.addresses))
        await self._heard()

    async def _park_one(self, drain: Drain, addresses: frozenset[str]) -> None:
        """Park one member, and take note of what it runs or that it does not answer."""
        begun = self.clock()
        running = await self.workers.park(addresses)
        if drain.addresses != addresses:
            return  # it was restarted meanwhile
        if addresses <= set(running):
            drain.parked, drain.silent = begun, None
            drain.running = {at: running[at] for at in addresses}
        else:
            drain.silent = self.clock()

    def _tell(self, who: Who, addresses: Collection[str], call: Coroutine[Any, Any, None]) -> None:
        self._told[who] = _Call(frozenset(addresses), asyncio.create_task(call))

    async def _heard(self) -> None:
        """Wait a while for answers of workers; one that is slow delays no other."""
        if not self._told:
            return
        begun = monotonic()
        calls = [call.task for call in self._told.values()]
        done, slow = await asyncio.wait(calls, timeout=timing.BRIEF)
        if slow:
            self._waited += monotonic() - begun
        self._told = {who: call for who, call in self._told.items() if call.task in slow}
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _move(self, drains: Collection[Drain]) -> None:
        """Have data moved away, beside everything else: it may take long."""
        under_way = frozenset().union(*self._moves) if self._moves else frozenset()
        due = {
            at
            for drain in drains
            if drain.parked is not None and not drain.addresses & under_way
            if not drain.addresses <= drain.moved or drain.refused is not None or _holds(drain)
            for at in drain.addresses
        }
        if due:
            addresses = frozenset(due)
            self._moves[addresses] = asyncio.create_task(self.workers.move(addresses))

    def _reap(self) -> None:
        """Take note of what became of moves that have ended."""
        for addresses, task in list(self._moves.items()):
            if task.done():
                del self._moves[addresses]
                self._moved(addresses, task)

    def _moved(self, addresses: frozenset[str], task: asyncio.Task[frozenset[str]]) -> None:
        """Take note of what became of a move."""
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            logger.info("data has not moved, which is tried again: %r", error)
            return
        moved = task.result()
        for drain in self.drains.values():
            if drain.addresses <= addresses:
                drain.moved = (drain.moved - addresses) | (drain.addresses & moved)
                refused = not drain.addresses <= moved
                drain.refused = (drain.refused or self.clock()) if refused else None

    async def _look(self, drains: Collection[Drain]) -> None:
        """Find out what is left there."""
        addresses = {at for drain in drains for at in drain.addresses}
        leaving = {at for drain in self.drains.values() for at in drain.addresses}
        left = await self.workers.left(addresses, leaving) if addresses else {}
        for drain in drains:
            known = {at: left[at] for at in drain.addresses if at in left}
            # What a task has made since has to be moved as well.
            if len(drain.unique) < sum(len(each.unique) for each in known.values()):
                drain.moved = frozenset()
            drain.left = known

    async def _judge(self, drain: Drain) -> None:
        """Decide whether it is ready, must stay, or goes on."""
        now, ready = self.clock(), False
        if drain.absent is not None:
            ready = now - drain.absent >= timing.ABSENT
        elif any(each.needed for each in drain.left.values()):
            drain.stays = "a shuffle goes on there, or tasks may run nowhere else"
        elif drain.refused is not None and now - drain.refused >= timing.REFUSED:
            what = listed("key", drain.unique) if drain.unique else "actors, perhaps"
            drain.stays = f"no other worker can take what only it holds ({what})"
        else:
            if drain.unique or drain.tasks or drain.left.keys() < drain.addresses:
                drain.settled = None
            elif drain.settled is None:
                drain.settled = now
            ready = _empty(drain, now)
        late = now - drain.since >= drain.deadline
        # The rule gives up what takes too long, not what nobody can take.
        may_stop = drain.on_deadline == "stop" and drain.refused is None
        if late and may_stop and not (ready or drain.stays):
            await self._give_up(drain)
            ready = True
        self.tracker.empty(drain, ready)
        if ready or drain.stays:
            self.news.set()
        elif late:
            _log(drain, now)

    async def _give_up(self, drain: Drain) -> None:
        """Let the member leave with what it runs and holds, as the group's rule says."""
        lost = [("task", drain.tasks)] * bool(drain.tasks)
        lost += [("key", drain.unique)] * bool(drain.unique)
        drain.given_up = " and ".join(listed(noun, keys) for noun, keys in lost)
        await self.workers.hasten(drain.addresses, timing.HASTE)
        self.tracker.of(drain.who).hasty = drain.addresses

    async def _return(self, found: Mapping[Who, Found]) -> None:
        """Undo drains, until the scheduler says that these members run."""
        busy = frozenset().union(*self._moves) if self._moves else frozenset()
        now = self.clock()
        for who, life in self.returning.items():
            statuses = found.get(who, Found()).statuses
            again = {at for at, word in statuses.items() if word == PARKED}
            if life.hasty:
                await self.workers.hasten(life.hasty, None)
                life.hasty = frozenset()
            if again or busy & statuses.keys() or who in self._told:
                # A move that nobody can complete parks a worker once more when it ends.
                life.running = None
                if again and who not in self._told:
                    self._tell(who, again, self.workers.unpark(again))
            elif life.running is None:
                life.running = now
            elif now - life.running >= 2 * timing.QUICK:
                self.tracker.take(who, Event.RETURN)
                self.news.set()
        await self._heard()


def _log(drain: Drain, now: float) -> None:
    """Write now and then that a drain is overdue: an alarm of a platform may count these lines."""
    again = drain.logged is None or now - drain.logged >= timing.OVERDUE
    if again and (said := drain.overdue(now)):
        logger.warning("%s", said)
        drain.logged = now


def _to_park(drain: Drain, now: float) -> bool:
    """Whether to tell it to park: for the first time, again, or to be sure that nothing runs."""
    if drain.ending or (drain.silent is not None and now - drain.silent < timing.SILENT):
        return False
    if drain.parked is None or now - drain.parked >= timing.PARK:
        return True
    known = {task for left in drain.left.values() for task in left.tasks}
    running = {task for tasks in drain.running.values() for task in tasks}
    if known - running and now - drain.parked >= timing.PARK_AGAIN:
        return True
    return bool(drain.left) and not known and bool(running)


def _holds(drain: Drain) -> bool:
    """Whether it holds what others do not, although its data has been moved."""
    return bool(drain.left) and not drain.tasks and bool(drain.unique)


def _empty(drain: Drain, now: float) -> bool:
    """Whether nothing runs there and nobody counts on it for any key.

    Holding no copy at all, not even one of what others hold too, is what makes two drains at
    the same time safe, of which the scaler knows one alone.
    """
    if drain.parked is None or drain.settled is None or not drain.addresses <= drain.moved:
        return False
    holds = any(left.held for left in drain.left.values())
    return not holds or now - drain.settled >= timing.SETTLED


__all__ = ["PARKED", "RUNNING", "Drain", "Drains", "Who"]
