"""Carry decisions out: drains, returns, and sizes of fleets. Each can be interrupted.

What is begun with a member is written down before it is done (`perennial.scaler.intents`). A size
needs no such note: it is absolute, and the platform holds it.
"""

from __future__ import annotations

import asyncio
import logging
import time as clocks
from collections.abc import Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from perennial.observation import Observation
from perennial.scaler import timing
from perennial.scaler.boot import uptime
from perennial.scaler.drain import Drain, Drains
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.intents import Intents
from perennial.scaler.life import Event, State
from perennial.scaler.members import UNDER_WAY, Doing, Intent, removable
from perennial.scaler.settings import GroupSettings
from perennial.scaler.values import (
    PARKED,
    Decision,
    Decisions,
    GroupSeen,
)
from perennial.scaler.workers import Who

logger = logging.getLogger("perennial.scaler")


class Actor:
    """Drains, brings back, and resizes."""

    def __init__(
        self,
        groups: Mapping[str, GroupSettings],
        fleets: Mapping[str, FleetClient],
        drains: Drains,
        intents: Intents,
    ) -> None:
        self.groups = groups
        self.fleets = fleets
        self.drains = drains
        self.intents = intents
        self.tracker = drains.tracker
        self.clock = drains.clock
        #: How many members have left, come back, could not be drained, were given up.
        self.counts = dict.fromkeys(("removed", "returned", "stayed", "given-up"), 0)
        self._truth = False
        self._scheduler = ""
        self._dry = False
        #: Since when more members are parked than anybody accounts for, by group.
        self._strays: dict[str, float] = {}
        #: What a platform that is not settled has said, and since when, by group.
        self._still: dict[str, tuple[Observation, float]] = {}

    def resume(self, mode: str) -> None:
        """Go on with what a scaler before this one has begun."""
        self._dry = mode == "dry-run"
        if self._dry:
            return
        for who, intent in self.intents.open.items():
            if intent.group not in self.groups or mode == "paused":
                self.drains.bring_back([who])
            elif intent.doing != "return":
                self.drains.begin(replace(self._drain(intent), resumed=True))
            logger.info("%s: goes on with its %s", intent.member, intent.doing)

    def live(
        self,
        group: str,
        observation: Observation,
        registered: frozenset[str],
    ) -> None:
        """Find out where each member of a group is in its life; strike off what has ended."""
        for name, step in self.tracker.observe(group, observation, registered).items():
            logger.info("%s: %s, and not by the scaler", name, step)
        if not self._dry:
            self._settle(group)

    def _settle(self, group: str) -> None:
        """Strike off what has ended in a group, and take up again what has not."""
        ended: dict[str, list[str]] = {"removed": [], "gone": [], "returned": []}
        for name, life in self.tracker.in_group(group):
            if life.intent is None:
                continue
            if life.state is State.GONE:
                removed = life.intent.doing == "remove"
                ended["removed" if removed else "gone"].append(name)
                logger.info("%s: is gone%s", name, "" if removed else " before its time")
            elif life.state is State.RUNNING:
                ended["returned"].append(name)
                self.counts["returned"] += 1
                logger.info("%s: is back", name)
            elif life.state is State.PARKING and life.drain is None:
                # It was given to the platform, and is still there, as after a kill at that instant.
                self.drains.begin(self._drain(life.intent))
        for how, names in ended.items():
            self._end(group, names, how)

    async def adopt(self, group: str, seen: GroupSeen) -> None:
        """Bring back members that are parked and that nobody drains, as after a loss of the log."""
        now, observation = self.clock(), self.fleets[group].observation
        drains = {name for name, each in self.tracker.in_group(group) if each.state in UNDER_WAY}
        members = observation.members if observation else ()
        here = {member.worker for member in members if member.state == "running"}
        ours = drains | (set(seen.names) - here)
        if len(seen.names) - seen.members <= len(ours & set(seen.names)):
            self._strays.pop(group, None)
            return
        since = self._strays.setdefault(group, now)
        if now - since < self.groups[group].group.drain + timing.STRAY:
            return
        found = await self.drains.workers.find([(group, name) for name in seen.names])
        parked = [
            (where, name)
            for (where, name), each in found.items()
            if where == group and name in here and name not in drains
            if each.statuses and set(each.statuses.values()) == {PARKED}
        ]
        del self._strays[group]
        if parked:
            logger.warning("%s: parked, and nobody drains it; brought back", _names(parked))
            self._back(parked, "parked, and nobody drains it")

    def draining(self, group: str, observation: Observation | None) -> dict[str, bool]:
        """Members that are being drained; True for those whose drain can be undone."""
        drains = self.drains.of(group)
        if observation is not None:
            here = {each.worker for each in observation.members if each.state != "leaving"}
            drains = {name: each for name, each in drains.items() if name in here}
        return {name: not each.given_up for name, each in drains.items()}

    def late(self, group: str) -> int:
        """Count the drains of a group that have taken longer than they may."""
        now = self.clock()
        return sum(now - each.since > each.deadline for each in self.drains.of(group).values())

    async def act(self, decisions: Decisions, scheduler: str | None) -> None:
        """Do what was decided for each group."""
        self._truth = scheduler is not None
        if scheduler is not None and scheduler != self._scheduler:
            self._scheduler = scheduler
            self.drains.again()  # what was drained of one scheduler has come back to the next
        await _all(
            self._act(decision, fleet, fleet.observation)
            for decision in decisions.groups.values()
            if (fleet := self.fleets[decision.group]).observation is not None
        )
        await self.remove_drained()
        for group in {each for each, _ in self.tracker.marked} - self.groups.keys():
            self._settle(group)  # no longer in the cluster file

    async def remove_drained(self) -> None:
        """Have the platforms remove the members that are drained."""
        drains = self.drains.drains.values()
        for each in drains:
            if each.stays:
                self._leave_alone(each)
        ready = {each.group for each in drains if self.tracker.drained(each)}
        await _all(self._remove(name) for name in ready)

    def undo_drains(self, why: str = "the scaler pauses") -> None:
        """Undo all drains: a parked member is of no use when nobody goes on with its drain."""
        drains = [*self.drains.drains]
        if drains:
            logger.info("%s: drains are undone, for %s", _names(drains), why)
            self._back(drains, why)

    async def stop(self, seconds: float) -> None:
        """Undo all drains and wait until that is done: there may be no scaler after this one."""
        self.undo_drains("the scaler stops")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.drains.returning and not self.drains.trouble:
                    await asyncio.sleep(0.1)
        for group in {each for each, _ in self.tracker.marked}:
            self._settle(group)

    def trouble(self, group: str) -> str:
        """Say what a person should know of the drains of a group; empty when all goes well."""
        now = self.clock()
        drains = self.drains.of(group)
        said = [each.trouble(now) for each in drains.values() if not self.tracker.drained(each)]
        alone = self.tracker.alone(group, now)
        said += [f"{name} stays: {pause.why}" for name, pause in alone.items()]
        said += [self.drains.trouble] * bool(drains)
        return "; ".join(filter(None, said))

    async def _act(self, decision: Decision, fleet: FleetClient, observation: Observation) -> None:
        """Bring back, resize, begin drains; in this order."""
        group = decision.group
        draining = self.draining(group, observation)
        back = [name for name in decision.back if name in draining]
        if back:
            self._back([(group, name) for name in back], decision.reason)
        staying = len(draining.keys() - set(back))
        # Who is being drained and who is about to be is still a member for its platform.
        to = decision.to + staying + len(decision.leave)
        to = max(to, observation.least)
        if observation.most is not None:  # what was decided is within it, or meant beyond it
            to = min(to, max(observation.most, staying, decision.to))
        unstarted = observation.desired > sum(m.state == "running" for m in observation.members)
        stands_still = self._stands_still(group, observation)
        if (to > observation.desired or (to < observation.desired and unstarted)) and fleet.free:
            await fleet.resize(to)
        elif to == observation.desired:
            # Decided while the platform was left alone, it says nothing of what is wanted of it.
            if decision.rule != "blocked":
                fleet.content()
            if stands_still and fleet.free:
                await fleet.resize(to)
        room = observation.desired - observation.least - staying
        self._begin(decision, observation, max(0, room))

    def _stands_still(self, group: str, observation: Observation) -> bool:
        """Whether a platform has not come nearer to what it was asked for: somebody was cut off."""
        if observation.settled:
            self._still.pop(group, None)
            return False
        now = self.clock()
        before, since = self._still.get(group, (None, now))
        still = before == observation
        late = now - since >= max(timing.STILL, self.groups[group].group.start_up)
        if late or not still:
            self._still[group] = observation, now
        return still and late

    def _begin(self, decision: Decision, observation: Observation, room: int) -> None:
        """Begin to drain those who shall leave, as many as the platform lets go."""
        group, now = decision.group, self.clock()
        here = {each.worker for each in observation.members if each.state != "leaving"}
        alone = self.tracker.alone(group, now)
        chosen = [
            name
            for name in decision.leave
            if name in here and name not in alone and self.tracker.may((group, name), Event.DRAIN)
            if self.tracker.state((group, name)) is not State.RETURNING
        ]
        if not chosen[:room]:
            return
        wall = clocks.time()
        intents = [Intent(group, name, "drain", wall, decision.reason) for name in chosen[:room]]
        self.intents.begin(intents)
        for intent in intents:
            self.drains.begin(self._drain(intent))

    async def _remove(self, name: str) -> None:
        """Have a platform remove those members of a group that are drained."""
        fleet = self.fleets[name]
        if not self._truth or not fleet.free:
            return
        observation = await fleet.observe()
        if observation is None:
            return
        try:
            await self.drains.confirm(name)
        except OSError as error:
            logger.debug("%s: cannot be looked at before the removal: %r", name, error)
            return
        ready = self.drains.ready(name)
        leaving = removable(observation, ready, fleet.chooses)
        leaving = leaving[: max(0, observation.desired - observation.least)]
        if not leaving:
            return
        drains = [ready[member.worker] for member in leaving]
        self.intents.begin(self._intent(each, "remove") for each in drains)
        # Of those whom the platform has begun to remove before, it holds the new size already.
        here = sum(member.state != "leaving" for member in observation.members)
        fewer = max(0, len(leaving) - max(0, here - observation.desired))
        to = observation.desired - fewer
        if (size := await fleet.resize(to, leaving)) is None:
            return  # it is still drained, and is tried again after the pause
        if size > to and (observation := await fleet.observe()) is not None:
            # Some could not go yet; they are still drained, too.
            stay = {each.worker for each in observation.members if each.state != "leaving"}
            drains = [each for each in drains if each.member not in stay]
        for each in drains:
            self.tracker.take(each.who, Event.REMOVE)
            spent = self.clock() - each.since
            lost = f"; gives up {each.given_up}" if each.given_up else ""
            level = logging.WARNING if lost else logging.INFO
            logger.log(level, "%s: leaves, drained in %.1f s%s", each.member, spent, lost)
            self.counts["given-up"] += bool(each.given_up)
            self.counts["removed"] += 1

    def _back(self, who: Collection[Who], why: str) -> None:
        wall = clocks.time()
        # Whom its platform removes already, nobody brings back.
        who = [each for each in who if self.tracker.may(each, Event.UNDO)]
        self.intents.begin(Intent(*each, "return", wall, why) for each in who)
        self.drains.bring_back(who)

    def _leave_alone(self, drain: Drain) -> None:
        """Bring a member back that could not be drained, and do not try it again soon."""
        pause = self.tracker.leave_alone(drain.who, drain.stays, self.clock())
        self.counts["stayed"] += 1
        logger.warning("%s: stays for %.0f s at least: %s", drain.member, pause, drain.stays)
        self._back([drain.who], drain.stays)

    def _drain(self, intent: Intent) -> Drain:
        """Make the drain that is wanted, with the time that it has had already."""
        rules = self.groups[intent.group]
        spent = max(0.0, uptime() - intent.begun)
        since = self.clock() - min(spent, rules.group.drain)
        return Drain(intent.group, intent.member, since, rules.group.drain, rules.on_deadline)

    def _intent(self, drain: Drain, doing: Doing) -> Intent:
        before = self.tracker.of(drain.who).intent
        return replace(before, doing=doing) if before else Intent(*drain.who, doing, clocks.time())

    def _end(self, group: str, names: Collection[str], how: str) -> None:
        try:
            self.intents.end(group, names, how)
        except OSError as error:  # the next scaler finds out again
            logger.warning("Cannot write %s: %s", self.intents.path, error)


async def _all(deeds: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do them side by side, all of them, and raise the first error afterwards."""
    for outcome in await asyncio.gather(*deeds, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _names(who: Collection[Who]) -> str:
    return ", ".join(sorted(name for _, name in who))
