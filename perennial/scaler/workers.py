"""What a drain asks of Dask, all of it through the scheduler, which reaches every worker.

No operation here removes a worker, and each is by address: Dask's own ways to retire ``n`` of
them choose among the workers of all groups.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NotRequired, Protocol, TypedDict

from perennial.scaler import timing
from perennial.scaler.values import PARKED
from perennial.scheduler_connection import SchedulerConnection
from perennial.tls import Tls

logger = logging.getLogger("perennial.scaler.workers")

#: Workers contacted at the same time.
AT_ONCE = 16


#: Group and name of a member.
Who = tuple[str, str]

RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Found:
    """A member as Dask knows it."""

    #: Dask's word for each of its processes, by address.
    statuses: Mapping[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> frozenset[str]:
        """Where its processes are."""
        return frozenset(self.statuses)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left on a worker."""

    #: Tasks that the scheduler has given to it.
    tasks: tuple[str, ...] = ()
    #: How many keys it holds.
    held: int = 0
    #: Those of them that no worker holds which is going to stay; of very many only some.
    unique: tuple[str, ...] = ()
    #: Whether it is needed where it is, as `perennial.preloads.leaving.needed_where_they_are` says.
    needed: bool = False


class Workers(Protocol):
    """What a drain asks of Dask."""

    async def find(self, who: Collection[Who]) -> dict[Who, Found]:
        """Find members; those that the scheduler does not know are left out."""
        ...

    async def park(self, addresses: Collection[str]) -> dict[str, list[str]]:
        """Have workers begin no more tasks; give what each still runs."""
        ...

    async def unpark(self, addresses: Collection[str]) -> None:
        """Have parked workers begin tasks again."""
        ...

    async def move(self, addresses: Collection[str]) -> frozenset[str]:
        """Have what only they hold moved away; give those for which that worked."""
        ...

    async def left(self, addresses: Collection[str], leaving: Collection[str]) -> dict[str, Left]:
        """Find out what is left on workers, when some leave and all that are parked."""
        ...

    async def hasten(self, addresses: Collection[str], seconds: float | None) -> None:
        """Have their nannies not wait again for what is given up; None undoes that."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


#: What the scheduler says of each worker, and what each has answered, by address.
ByAddress = Mapping[str, Mapping[str, Any]]
Results = dict[str, Any]


class Call(TypedDict):
    """A function and its arguments for a worker or its nanny; both pickled."""

    op: str
    function: bytes
    args: NotRequired[bytes]
    kwargs: NotRequired[bytes]


class DaskWorkers:
    """Workers that are reached through their scheduler."""

    def __init__(self, address: str, groups: Mapping[str, int], tls: Tls | None = None) -> None:
        self.groups = dict(groups)
        self._scheduler = SchedulerConnection(address, tls, timing.DRAIN_ANSWER)
        #: What is passed on to workers has a line of its own, for one of them may not answer.
        self._passed = SchedulerConnection(address, tls, timing.DRAIN_ANSWER)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._without = 0.0  # until when the preload is not asked

    async def find(self, who: Collection[Who]) -> dict[Who, Found]:
        """Find members; those that the scheduler does not know are left out."""
        if not who:
            return {}
        rows = await self._ask_preload("perennial_members", who=[list(each) for each in who])
        if rows is not None:
            return {(group, name): Found(statuses) for group, name, statuses in rows}
        members: dict[Who, dict[str, str]] = {}
        for address, worker in (await self._everybody()).items():
            whose = self._whose(worker)
            if whose in who:
                members.setdefault(whose, {})[address] = worker["status"]
        return {whose: Found(statuses) for whose, statuses in members.items()}

    async def park(self, addresses: Collection[str]) -> dict[str, list[str]]:
        """Have workers begin no more tasks; give what each still runs."""
        from perennial.preloads.parking import park

        return await self._run(park, addresses, patience=0.0)

    async def unpark(self, addresses: Collection[str]) -> None:
        """Have parked workers begin tasks again."""
        from perennial.preloads.parking import unpark

        await self._run(unpark, addresses)

    async def move(self, addresses: Collection[str]) -> frozenset[str]:
        """Have what only they hold moved away; give those for which that worked."""
        here = list(addresses)
        moved = None
        if monotonic() >= self._without:
            moved = await self._ask("perennial_move", timing.MOVE, addresses=here)
        if moved is None:  # it has no preload, or that of an earlier version
            moved = await self._ask(
                "retire_workers", timing.MOVE, workers=here, close_workers=False, remove=False
            )
        return frozenset(moved) & frozenset(here)

    async def left(self, addresses: Collection[str], leaving: Collection[str]) -> dict[str, Left]:
        """Find out what is left on workers, when some leave and all that are parked."""
        question = {"addresses": list(addresses), "leaving": list(leaving)}
        rows = await self._ask_preload("perennial_left", **question)
        if rows is not None:
            return {
                address: Left(tuple(sorted(tasks)), held, tuple(sorted(unique)), kept)
                for address, (tasks, held, unique, kept) in rows.items()
            }
        everybody = await self._everybody()
        stay = {at for at, worker in everybody.items() if worker["status"] != PARKED}
        stay -= set(leaving)
        known = await self._ask("ncores", workers=list(addresses))
        # Tasks first: the result of one that ends between two questions is then seen as data.
        tasks = await self._ask("processing", workers=list(known)) if known else {}
        held = await self._ask("has_what", workers=list(known)) if known else {}
        keys = {key for each in held.values() for key in each}
        holders = await self._ask("who_has", keys=list(keys)) if keys else {}
        only = {key for key in keys if stay.isdisjoint(holders.get(key, ()))}
        return {
            address: Left(
                tuple(sorted(map(str, tasks.get(address, ())))),
                len(held[address]),
                tuple(sorted(str(key) for key in held[address] if key in only)),
            )
            for address in known
        }

    async def hasten(self, addresses: Collection[str], seconds: float | None) -> None:
        """Have their nannies not wait again for what is given up; None undoes that."""
        from perennial.preloads.parking import hasten

        await self._run(hasten, addresses, nanny=True, seconds=seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._scheduler.close()
        await self._passed.close()

    def _whose(self, worker: Mapping[str, Any]) -> Who:
        return belongs(worker, self.groups)

    async def _everybody(self) -> ByAddress:
        """All workers that the scheduler knows, by address: a large answer."""
        workers: ByAddress = (await self._ask("identity", n_workers=-1))["workers"]
        return workers

    async def _ask_preload(self, operation: str, **arguments: Any) -> Any:
        """Ask the scheduler's preload; None where it has none, or it has stopped counting."""
        if monotonic() < self._without:
            return None
        answer = await self._ask(operation, **arguments)
        if answer is None:
            self._without = monotonic() + timing.PRELOAD_AGAIN
        return answer

    async def _run(
        self, function: Any, addresses: Collection[str], nanny: bool = False, **arguments: Any
    ) -> Results:
        """Run a function in workers or their nannies; those that do not answer are left out."""
        from distributed.core import clean_exception

        calls = (
            self._pass_on(address, self._message(function, address, arguments), nanny)
            for address in addresses
        )
        answers: Results = {}
        for each in await asyncio.gather(*calls):
            answers |= each
        results = {}
        for address, answer in answers.items():
            if isinstance(answer, bytes):
                logger.debug("%s does not answer", address)
            elif answer["status"] == "OK":
                results[address] = answer["result"]
            else:
                _, error, _ = clean_exception(**answer)
                logger.warning("%s: %r", address, error)
        return results

    def _message(self, function: Any, _address: str, arguments: Mapping[str, Any]) -> Call:
        """Say what a worker runs: a function that it has itself."""
        from distributed.protocol.pickle import dumps

        return {"op": "run", "function": dumps(function), "kwargs": dumps(dict(arguments))}

    async def _pass_on(self, address: str, message: Call, nanny: bool) -> Results:
        """Call one worker or its nanny; None where it does not answer."""
        async with self._turn:
            line = self._passed
            try:
                found: Results = await line.ask(
                    "broadcast",
                    timing.WORKER_ANSWER,
                    msg=message,
                    workers=[address],
                    nanny=nanny,
                    on_error="return_pickle",
                )
                return dict(found)
            except (TimeoutError, asyncio.CancelledError) as error:
                if line is self._passed:  # a connection still waits for the answer
                    self._passed = SchedulerConnection(line.address, line.tls, timing.DRAIN_ANSWER)
                if isinstance(error, asyncio.CancelledError):
                    raise
                logger.debug("%s does not answer in %g s", address, timing.WORKER_ANSWER)
                return {}
            finally:
                if line is not self._passed and not line.asking:
                    await line.close()

    async def _ask(
        self, operation: str, timeout: float = timing.DRAIN_ANSWER, **arguments: Any
    ) -> Any:
        """Ask the scheduler; raise OSError where it is not there or does not answer in time."""
        return await self._scheduler.ask(operation, timeout, **arguments)


def belongs(worker: Mapping[str, Any], groups: Mapping[str, int]) -> tuple[str, str]:
    """Say which group and member a worker is of; by its name, where it does not say so itself."""
    said = worker.get("perennial")
    if isinstance(said, Mapping) and {"group", "member"} <= set(said):
        return str(said["group"]), str(said["member"])
    name = str(worker["name"])
    fitting = [group for group in groups if name.startswith(f"{group}-")]
    group = max(fitting, key=len, default="")
    return group, name.rpartition("-")[0] if groups.get(group, 1) > 1 else name
