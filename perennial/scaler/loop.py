"""The scaler's loop: look, decide, drain, resize, write down; again after some seconds.

Each tick asks the fleets and the scheduler, has the policy decide, and acts. It comes early when
the scheduler reports work for which there is no worker. Nothing is acted on that is not known for
certain now. What takes longer than a tick, the drains, goes on beside it.
"""

from __future__ import annotations

import asyncio
import logging
import time as clocks
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from perennial.scaler import calendar, timing
from perennial.scaler.acting import Actor
from perennial.scaler.demand import DemandError, Source
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.history import Record
from perennial.scaler.overrides import Overrides
from perennial.scaler.policy import decide, detail_wanted
from perennial.scaler.records import Log, record
from perennial.scaler.settings import GroupSettings, Settings
from perennial.scaler.state import SavedState
from perennial.scaler.values import Decision, Decisions, Demand, Rules, Standing

logger = logging.getLogger("perennial.scaler")

#: Ticks that follow one that the scheduler has asked for, as soon: how long new tasks take is seen
#: once some of them have run for a second or two, and decides whether a member is worth its start.
AFTER = 3


@dataclass
class Health:
    """What is needed to say whether the scaler does its work."""

    #: When the loop began, by the scaler's clock.
    started: float
    ticks: int = 0
    failed: int = 0
    #: When the last tick ended, and the last complete one; seconds that it took.
    ended: float | None = None
    truth: float | None = None
    seconds: float = 0.0
    #: What is wrong now.
    trouble: dict[str, str] = field(default_factory=dict)


class Loop:
    """One scaler at work."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        fleets: Mapping[str, FleetClient],
        actor: Actor,
        memory: SavedState,
        overrides: Overrides,
    ) -> None:
        self.settings = settings
        self.source = source
        self.fleets = fleets
        self.actor = actor
        self.memory = memory
        self.overrides = overrides
        self.clock = memory.clock
        self.log = Log(settings.state)
        self.health = Health(self.clock())
        #: The latest report, for the scheduler to keep, and for `/metrics`.
        self.report: dict[str, Any] = {}
        self._acknowledged: list[str] = []
        self._saved = 0.0
        self._said: dict[str, tuple[Any, ...]] = {}
        self._woken = asyncio.Event()
        self._soon = 0  # how many more ticks come soon

    @property
    def mode(self) -> str:
        """Whether it acts."""
        if self.settings.dry_run:
            return "dry-run"
        return "paused" if self.overrides.paused else "act"

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until told to stop; then bring back whoever is being drained."""
        self.actor.resume(self.mode)
        beside = [asyncio.create_task(self._listen())]
        if not self.settings.dry_run:
            beside.append(asyncio.create_task(self.actor.drains.run()))
        try:
            while not stop.is_set():
                begun = clocks.monotonic()
                await self.guarded_tick()
                await self._between(stop, begun)
            if not self.settings.dry_run:
                await self.actor.stop(timing.STOPPING)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self.actor.drains.close()
            self._save(force=True)

    async def guarded_tick(self) -> None:
        """Tick; after any error nothing is changed, and the next tick tries again."""
        begun = clocks.monotonic()
        try:
            await self.tick()
            self.health.trouble.pop("tick", None)
        except Exception as error:
            self.health.failed += 1
            self.health.trouble["tick"] = f"a tick has failed: {type(error).__name__}: {error}"
            logger.exception("A tick has failed; nothing is changed")
        self.health.ticks += 1
        self.health.ended = self.clock()
        self.health.seconds = clocks.monotonic() - begun

    async def tick(self) -> Decisions:
        """Look, decide, act, and write down."""
        self._soon = AFTER if self._woken.is_set() else max(0, self._soon - 1)
        self._woken.clear()
        await asyncio.gather(*(fleet.observe() for fleet in self.fleets.values()))
        rules = self.rules(datetime.now(UTC))
        standings = {name: self._standing(name) for name in self.fleets}
        now = self.clock()
        wanted = detail_wanted(rules, standings, self.memory.history, now)
        demand = await self._read(wanted)
        if demand is not None:
            rules = self.rules(datetime.now(UTC))  # with what was requested just now
        known = {name: self._registered(name, demand) for name in self.fleets}
        self._live(known)
        standings = {name: self._standing(name) for name in self.fleets}
        now = self.clock()
        decisions = decide(rules, demand, standings, self.memory.history, now)
        self._tell(decisions)
        mode = self.mode
        if mode == "act":
            await self.actor.act(decisions, demand.scheduler if demand else None)
            for name, seen in demand.groups.items() if demand else ():
                if name in self.fleets:
                    await self.actor.adopt(name, seen)
        elif mode == "paused":
            self.actor.undo_drains()
        self.memory.history = decisions.history
        self._save()
        self._note(decisions, standings, demand, rules)
        if demand is not None and all(each.observation for each in standings.values()):
            self.health.truth = self.clock()
        return decisions

    def rules(self, now: datetime) -> Rules:
        """Apply the calendar and overrides to the rules."""
        groups = []
        for each in self.settings.groups:
            bounds = _bounds(each, now)
            group = replace(each.group, min=bounds.min, max=bounds.max)
            groups.append(self.overrides.applied(group))
        return Rules(tuple(groups), self.settings.budget)

    def _again(self, decision: Decision) -> float | None:
        """Say in how many seconds time alone may lead to another decision; None for never."""
        now = self.clock()
        times = [
            decision.again,
            self.overrides.left(decision.group, now),
            *(e.until - now for e in self.actor.tracker.alone(decision.group, now).values()),
        ]
        for each in self.settings.groups:
            if each.group.name == decision.group:
                today = datetime.now(UTC)
                until = _bounds(each, today).until
                times.append(None if until is None else (until - today).total_seconds())
        return min((each for each in times if each is not None), default=None)

    async def _read(self, detail: tuple[str, ...]) -> Demand | None:
        """Read the demand, and take up the requests of people."""
        try:
            demand, requests = await self.source.read(
                detail, self.report or None, self._acknowledged
            )
        except DemandError as error:
            self.health.trouble["scheduler"] = str(error)
            return None
        self.health.trouble.pop("scheduler", None)
        now = self.clock()
        try:
            said = self.overrides.take(requests, frozenset(self.fleets), now)
            said += self.overrides.expire(now)
            self._acknowledged = [str(request["id"]) for request in requests]
            self.health.trouble.pop("state", None)
        except OSError as error:  # the scheduler sends them again
            self._acknowledged = []
            self.health.trouble["state"] = f"cannot write the requests: {error}"
            return demand
        for line in said:
            logger.info("%s", line)
        return demand

    def _registered(self, name: str, demand: Demand | None) -> frozenset[str] | None:
        if demand is None:
            return None
        seen = demand.groups.get(name)
        return frozenset(seen.names if seen else ())

    def _live(self, known: Mapping[str, frozenset[str] | None]) -> None:
        """Find out where each member is in its life, and strike off what has ended."""
        for name, fleet in self.fleets.items():
            registered = known[name]
            if fleet.observation is None or registered is None:
                continue
            self.actor.live(name, fleet.observation, registered)

    def _standing(self, name: str) -> Standing:
        fleet = self.fleets[name]
        return Standing(
            observation=fleet.observation,
            draining=self.actor.draining(name, fleet.observation),
            blocked=fleet.blocked,
            trouble=fleet.said,
            chooses=fleet.chooses,
            late=self.actor.late(name),
        )

    def _tell(self, decisions: Decisions) -> None:
        """Log a line for each decision that changes something, once."""
        for name, each in decisions.groups.items():
            what = (each.to, each.leave, each.back, each.rule)
            if (each.to != each.current or each.leave or each.back) and self._said.get(
                name
            ) != what:
                logger.info(
                    "%s: %d → %d (%s): %s", name, each.current, each.to, each.rule, each.reason
                )
            self._said[name] = what
        texts = tuple(each.text for each in decisions.infeasible)
        if texts and self._said.get("") != texts:
            for text in texts:
                logger.warning("%s", text)
        self._said[""] = texts

    def _note(
        self,
        decisions: Decisions,
        standings: Mapping[str, Standing],
        demand: Demand | None,
        rules: Rules,
    ) -> None:
        """Write the records, and the report that others read at the scheduler."""
        now = clocks.time()
        away = self.health.trouble.get("scheduler", "")
        records: dict[str, Record] = {
            name: record(
                *(replace(decision, again=self._again(decision)), standings[name], demand, rules),
                time=now,
                mode=self.mode,
                trouble="; ".join(filter(None, (away, self.actor.trouble(name)))),
                infeasible=[each.text for each in decisions.infeasible],
            )
            for name, decision in decisions.groups.items()
        }
        try:
            self.log.write(records.values())
            self.health.trouble.pop("records", None)
        except OSError as error:
            self.health.trouble["records"] = f"cannot write {self.log.path}: {error}"
        self.report = {
            "time": round(now, 3),
            "cluster": self.settings.cluster,
            "mode": self.mode,
            "interval": self.settings.interval,
            "groups": records,
            "fixed": [
                name
                for name, each in standings.items()
                if (here := each.observation) is not None
                if here.least == here.desired == here.most
            ],
            "infeasible": [
                {"tasks": each.tasks, "oldest": round(each.oldest, 1), "text": each.text}
                for each in decisions.infeasible
            ],
            "wishes": self.overrides.summary(self.clock()),
            "limits": {name: self._limits(name) for name in standings},
            "trouble": "; ".join(self.health.trouble.values()),
        }

    def _limits(self, name: str) -> dict[str, object]:
        """Say how large a person may make a group, without force and with it."""
        seen = self.fleets[name].observation
        return {
            "max": self.overrides.ceiling(name),
            "most": seen.most if seen else None,
            "room": seen.room if seen else "",
            "utmost": seen.utmost if seen else None,
            "beyond": seen.beyond if seen else "",
        }

    def _save(self, force: bool = False) -> None:
        now = self.clock()
        if not force and now - self._saved < timing.SAVE:
            return
        try:
            self.memory.save(self.memory.history)
            self._saved = now
        except OSError as error:
            logger.warning("Cannot write %s: %s", self.memory.path, error)

    async def _listen(self) -> None:
        """Have the next tick come at once when the scheduler has news."""
        while True:
            try:
                if await self.source.wait_for_change():
                    self._woken.set()
            except Exception:  # the next tick comes anyway, only later
                logger.exception("Waiting for changes has failed; tried again")
                await asyncio.sleep(timing.CHANGE_AGAIN)

    async def _between(self, stop: asyncio.Event, begun: float) -> None:
        """Wait for the next tick; members that are drained meanwhile leave at once."""
        drained, interval = self.actor.drains.news, self.settings.interval
        while not stop.is_set():
            part = timing.SOONEST if self._woken.is_set() or self._soon else 1.0
            left = begun + part * interval - clocks.monotonic()
            if left <= 0:
                return
            events = [stop, drained, *(() if self._woken.is_set() else (self._woken,))]
            waiting = {asyncio.create_task(event.wait()) for event in events}
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if drained.is_set():
                drained.clear()
                if not stop.is_set() and self.mode == "act":
                    try:
                        await self.actor.remove_drained()
                    except Exception:
                        logger.exception("Removing what is drained has failed; tried again")


def _bounds(group: GroupSettings, now: datetime) -> calendar.Bounds:
    return calendar.bounds(group.schedules, group.group.min, group.group.max, now)
