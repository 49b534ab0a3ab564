"""The scaler of a cluster that we did not start: demand and drains without anything of ours in it.

Members are known by their host, which both the platform and the scheduler say. Demand is what the
scheduler's dashboard says to everybody. What a drain runs in a worker is sent there as source,
because neither our package nor this version of Python is there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from perennial.observation import Observation
from perennial.preloads.messages import Request
from perennial.scaler import timing
from perennial.scaler.dashboard_demand import HttpSource, data, demand_of, given
from perennial.scaler.demand import SchedulerAway
from perennial.scaler.desk import Desk
from perennial.scaler.fleet_client import FleetClient
from perennial.scaler.values import Demand, MemberSeen
from perennial.scaler.workers import RUNNING, ByAddress, Call, DaskWorkers, Who
from perennial.tls import Tls

#: What is missing although members can be chosen.
MISSING = "the scheduler is not ours, so what tasks need and how long they take is not known"


#: Calls one of the functions before it in a worker. They wait for nothing, so that a coroutine
#: can be run to its end at once.
_CALL = """

def call(name, address, arguments):
    from inspect import iscoroutine
    from distributed.worker import Worker
    here = [each for each in list(Worker._instances) if each.address == address]
    result = globals()[name](**arguments, dask_worker=here[0])
    if iscoroutine(result):
        try:
            result.send(None)
        except StopIteration as ended:
            return ended.value
    return result
"""


class ByHost:
    """Finds out whose a worker is, by its host."""

    def __init__(self, fleets: Mapping[str, FleetClient]) -> None:
        self.fleets = fleets
        #: What each group's platform has said last, and the group of each host in that.
        self._seen: dict[str, Observation] = {}
        self._groups: dict[str, str] = {}

    def __call__(self, worker: Mapping[str, Any]) -> Who:
        """Return the group and the member; a host that no platform knows is of no group."""
        host = str(worker["host"])
        # One that does not answer now is taken to have what it had.
        seen = {
            name: each.observation or self._seen.get(name) for name, each in self.fleets.items()
        }
        if any(each is not self._seen.get(name) for name, each in seen.items()):
            self._seen = {name: each for name, each in seen.items() if each is not None}
            self._groups = {
                member.worker: name for name, each in self._seen.items() for member in each.members
            }
        return self._groups.get(host, ""), host


class AdoptedWorkers(DaskWorkers):
    """Workers that have nothing of ours, reached through their scheduler."""

    def __init__(
        self,
        address: str,
        whose: Callable[[Mapping[str, Any]], Who],
        tls: Tls | None = None,
    ) -> None:
        super().__init__(address, {}, tls)
        self.whose = whose
        self._without = float("inf")  # the scheduler has no preload

    async def hasten(self, addresses: Collection[str], seconds: float | None) -> None:
        """Do nothing: their nannies wait for nothing."""

    async def identity(self) -> Mapping[str, Any]:
        """Ask the scheduler who it is, and who its workers are.

        It names all of them; an earlier one refuses to be asked for so many.
        """
        found: Mapping[str, Any] = await self._ask("identity")
        return found

    async def _everybody(self) -> ByAddress:
        workers: ByAddress = (await self.identity())["workers"]
        return workers

    def _whose(self, worker: Mapping[str, Any]) -> Who:
        return self.whose(worker)

    def _message(self, function: Any, address: str, arguments: Mapping[str, Any]) -> Call:
        """Say what a worker runs, with the source of the function."""
        from distributed.protocol.pickle import dumps

        source = inspect.getsource(inspect.getmodule(function) or function) + _CALL
        words = f"{function.__name__!r}, {address!r}, {dict(arguments)!r}"
        text = f"(lambda here: (exec({source!r}, here), here['call']({words}))[1])({{}})"
        return {"op": "run", "function": dumps(eval), "args": dumps((text,))}


class AdoptedSource(HttpSource):
    """Asks the dashboard of a scheduler that has nothing of ours, and knows its members."""

    def __init__(self, where: str, workers: AdoptedWorkers, clock: Callable[[], float]) -> None:
        super().__init__(where, {})
        self.workers = workers
        self.clock = clock
        self.desk = Desk()
        #: Since when each member has had nothing to do.
        self._idle: dict[Who, float] = {}
        self._without = 0.0  # until when the page of workers is not asked for

    async def read(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
    ) -> tuple[Demand, list[Request]]:
        """Ask once; requests are kept here. See `perennial.scaler.demand.Source.read`."""
        requests = self.desk.taken(report, acknowledged)
        counts = await asyncio.to_thread(self._get, "counts")
        identity = await self._asked()
        try:
            demand = demand_of(counts, identity, self.workers.whose)
            members = self._members(identity["workers"].values())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SchedulerAway(
                f"dashboard at {self.where}: not that of a Dask scheduler ({error!r}); "
                "name its host and port"
            ) from None
        groups = {
            name: replace(seen, detail={each: members[name, each] for each in seen.names})
            for name, seen in demand.groups.items()
        }
        more = demand.partial.partition("; ")[2]
        lacking = "; ".join(filter(None, (MISSING, more)))
        return replace(demand, groups=groups, partial=lacking), requests

    async def wait_for_change(self) -> bool:
        """Wait for a request."""
        return await self.desk.news(timing.CHANGE)

    async def _asked(self) -> Any:
        """Ask for the workers; the scheduler itself where Dask cannot write the page.

        It cannot while a worker's heartbeat tells how long tasks took. Each failure is a traceback
        in its log, so the page is not asked for again soon.
        """
        if self.clock() >= self._without:
            try:
                return await asyncio.to_thread(self._get, "identity")
            except SchedulerAway:
                self._without = self.clock() + timing.SOURCE_AGAIN
        try:
            return await self.workers.identity()
        except (OSError, TimeoutError) as error:
            raise SchedulerAway(
                f"scheduler at {self.where}: does not list its workers ({error!r}); asks again"
            ) from None

    def _members(self, workers: Collection[Mapping[str, Any]]) -> dict[Who, MemberSeen]:
        """Sum up each member; how long it has been idle is remembered from read to read."""
        now = self.clock()
        members: dict[Who, list[Mapping[str, Any]]] = {}
        for worker in workers:
            members.setdefault(self.workers.whose(worker), []).append(worker)
        idle = [who for who, each in members.items() if not any(map(_works, each))]
        self._idle = {who: self._idle.get(who, now) for who in idle}
        return {
            (group, name): MemberSeen(
                name,
                status=next((w["status"] for w in each if w["status"] != RUNNING), RUNNING),
                processes=len(each),
                processing=sum(map(given, each)),
                idle=now - self._idle.get((group, name), now),
                nbytes=sum(map(data, each)),
                memory=sum(worker["metrics"].get("memory", 0) for worker in each),
            )
            for (group, name), each in members.items()
        }


def _works(worker: Mapping[str, Any]) -> bool:
    """Whether a worker has something to do, or had in the time that its heartbeat tells of."""
    spent = worker["metrics"].get("digests_total_since_heartbeat", {})
    ran = any(isinstance(key, list | tuple) and key and key[0] == "execute" for key in spent)
    return given(worker) > 0 or ran
