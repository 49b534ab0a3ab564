"""The scaler put together from its parts, and run until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from perennial.fleet import opened
from perennial.scaler import timing
from perennial.scaler.acting import Actor
from perennial.scaler.adopted import AdoptedSource, AdoptedWorkers, ByHost
from perennial.scaler.demand import Source
from perennial.scaler.drain import Drains
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.intents import Intents
from perennial.scaler.loop import Loop
from perennial.scaler.members import MemberTracker
from perennial.scaler.metrics import Pages, ScalerState
from perennial.scaler.overrides import Overrides
from perennial.scaler.settings import Settings
from perennial.scaler.sources import opened as source
from perennial.scaler.state import SavedState, lock
from perennial.scaler.workers import DaskWorkers

logger = logging.getLogger("perennial.scaler")


def assembled(settings: Settings) -> Loop:
    """Put a scaler together; its folder must be locked."""
    groups = {each.group.name: each for each in settings.groups}
    processes = {name: each.group.processes for name, each in groups.items()}
    memory, tracker = SavedState(settings.state), MemberTracker()
    intents = Intents(settings.state, tracker)
    overrides = Overrides(settings.state, {name: each.most for name, each in groups.items()})
    for note in filter(None, (memory.note, overrides.note)):
        logger.warning("%s", note)
    if intents.damaged:
        logger.warning("%s: %d lines are damaged and skipped", intents.path, intents.damaged)
    fleets = {
        name: FleetClient(name, partial(opened, settings.platform, each.fleet), memory.clock)
        for name, each in groups.items()
    }
    workers = DaskWorkers(settings.scheduler, processes, settings.tls)
    demand: Source | None = None
    if settings.adopted and settings.http is not None:
        workers = AdoptedWorkers(settings.scheduler, ByHost(fleets), settings.tls)
        demand = AdoptedSource(settings.http, workers, memory.clock)
    drains = Drains(workers, memory.clock, tracker)
    demand = demand or source(settings.scheduler, processes, settings.tls, settings.http)
    return Loop(settings, demand, fleets, Actor(groups, fleets, drains, intents), memory, overrides)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run a cluster's scaler."""
    with lock(settings.state, settings.cluster):
        loop = assembled(settings)
        desk = loop.source.desk if isinstance(loop.source, AdoptedSource) else None
        pages = (
            Pages(settings.port, partial(state, loop), loop.clock, desk) if settings.port else None
        )
        signs = asyncio.create_task(_alive(loop))
        logger.info(
            "Scaler of %s on %s: %s every %g s%s",
            *(settings.cluster, settings.platform, ", ".join(loop.fleets), settings.interval),
            {"act": "", "dry-run": "; a dry run, nothing is changed", "paused": "; paused"}[
                loop.mode
            ],
        )
        try:
            await loop.run(stop)
        finally:
            _notify("STOPPING=1")
            signs.cancel()
            await loop.source.close()
            await loop.actor.drains.workers.close()
            if pages is not None:
                pages.close()
        open_ = len(loop.actor.intents.open)
        logger.info("Stopped%s", f"; {open_} members wait for the next scaler" if open_ else "")


def state(loop: Loop) -> ScalerState:
    """Say how a scaler is, for its pages."""
    report, health = loop.report, loop.health
    return ScalerState(
        mode=loop.mode,
        interval=loop.settings.interval,
        ended=health.ended,
        truth=health.truth,
        seconds=health.seconds,
        trouble=dict(health.trouble),
        fleets={name: fleet.said for name, fleet in loop.fleets.items() if fleet.said},
        groups=_groups(loop),
        infeasible=sum(each["tasks"] for each in report.get("infeasible", ())),
        counts={
            "ticks": health.ticks,
            "failed-ticks": health.failed,
            "platform-errors": sum(fleet.errors for fleet in loop.fleets.values()),
            **loop.actor.counts,
        },
    )


async def _alive(loop: Loop) -> None:
    """Notify the service manager when it is ready, and that it is alive as long as ticks end."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pause = (
        min(timing.HEARTBEAT, int(microseconds) / 2e6)
        if microseconds.isdigit()
        else timing.HEARTBEAT
    )
    while loop.health.ended is None:
        await asyncio.sleep(0.05)
    _notify("READY=1")
    with suppress(asyncio.CancelledError):
        while True:
            if loop.clock() - (loop.health.ended or 0.0) < timing.HUNG:
                sizes = (f"{name} {each['to']}" for name, each in _groups(loop).items())
                _notify("WATCHDOG=1", f"STATUS={loop.mode}: {', '.join(sizes)}")
            await asyncio.sleep(pause)


def _groups(loop: Loop) -> Mapping[str, Any]:
    groups: Mapping[str, Any] = loop.report.get("groups", {})
    return groups


def _notify(*lines: str) -> None:
    if "NOTIFY_SOCKET" in os.environ:
        from perennial.preloads.systemd_notify import notify

        notify(*lines)
