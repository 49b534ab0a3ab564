"""Demand of a scheduler that we did not start, from what its dashboard says to everybody.

Much is missing there, and `Demand.partial` says so: what tasks need, how long they take, and who
has been idle. So a group can grow by this demand but never shrink.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from time import monotonic, time
from typing import Any
from urllib.error import HTTPError

from perennial.preloads.messages import Request
from perennial.scaler import timing
from perennial.scaler.demand import SchedulerAway
from perennial.scaler.values import PARKED, Demand, GroupSeen, Load, Work

#: A worker's words for tasks that were given to it and have not ended.
GIVEN = ("waiting", "ready", "constrained", "executing", "long-running", "resumed")

#: What is always missing.
MISSING = (
    "the scheduler has no --preload perennial.preloads.demand, so what tasks need, how long they "
    "take and who is idle is not known, and no group can shrink"
)

#: No proxy: a scheduler's dashboard stands near the scaler.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpSource:
    """Asks the dashboard of a scheduler."""

    def __init__(
        self, where: str, groups: Mapping[str, int], timeout: float = timing.DASHBOARD_ANSWER
    ) -> None:
        self.where = where
        self.groups = dict(groups)
        self.timeout = timeout
        self._workers: tuple[float, Any] | None = None  # time and content of the last page

    async def read(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
    ) -> tuple[Demand, list[Request]]:
        """Ask once; there are neither details of members nor requests. See `Source.read`."""
        counts, (age, identity) = await asyncio.gather(
            asyncio.to_thread(self._get, "counts"), asyncio.to_thread(self._identity)
        )
        try:
            demand = demand_of(counts, identity, partial(member_of, groups=self.groups))
            if age:
                old = f"its workers are those of {age:.0f} s ago: Dask's page of them fails"
                demand = replace(demand, partial=f"{demand.partial}; {old} while they work")
            return demand, []
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SchedulerAway(
                f"dashboard at {self.where}: not that of a Dask scheduler ({error!r}); "
                "name its host and port"
            ) from None

    async def wait_for_change(self) -> bool:
        """Wait: a dashboard notifies of nothing. See `Source.wait_for_change`."""
        await asyncio.sleep(timing.CHANGE)
        return False

    async def close(self) -> None:
        """Do nothing: no connection is kept."""

    def _identity(self) -> tuple[float, Any]:
        """Ask for the workers; give how old the answer is, and the answer.

        Dask cannot write the page while a worker's heartbeat tells how long tasks took, so
        whenever there is work. Then the last one has to do.
        """
        try:
            self._workers = monotonic(), self._get("identity")
            return 0.0, self._workers[1]
        except SchedulerAway:
            if self._workers is None:
                raise
            moment, identity = self._workers
            return monotonic() - moment, identity

    def _get(self, page: str) -> Any:
        url = f"http://{self.where}/json/{page}.json"
        try:
            with _OPENER.open(url, timeout=self.timeout) as answer:
                return json.load(answer)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise SchedulerAway(
                f"dashboard at {self.where}: does not answer /json/{page}.json ({error}); "
                "asks again"
            ) from None


def demand_of(
    counts: Mapping[str, Any],
    identity: Mapping[str, Any],
    whose: Callable[[Mapping[str, Any]], tuple[str, str]],
) -> Demand:
    """Make a demand of what a scheduler's dashboard says."""
    seen: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    for worker in identity["workers"].values():
        group, member = whose(worker)
        seen[group].append((member, worker))
    running = any(worker["status"] == "running" for worker in identity["workers"].values())
    lacking, unrunnable = MISSING, Load()
    if running and counts["unrunnable"]:
        # Running workers cannot run them, and neither need those that would be asked for.
        lacking += f"; {counts['unrunnable']} tasks need something that no worker has"
    else:
        unrunnable = _unknown(counts["unrunnable"])
    work = Work(
        queued=_unknown(queued(counts)),
        unrunnable=unrunnable,
        processing={group: _unknown(_given(workers)) for group, workers in seen.items()},
        waiting=counts["waiting"],
    )
    return Demand(
        scheduler=identity["id"],
        uptime=max(0.0, time() - identity["started"]),
        work=(work,),
        groups={group: _group(workers) for group, workers in seen.items()},
        clients=max(0, counts["clients"] - 1),  # Dask counts one of its own
        partial=lacking,
    )


def queued(counts: Mapping[str, int]) -> int:
    """Find out how many tasks the scheduler holds back: those that it counts as nothing else.

    Where results have copies there are more of them than this says.
    """
    others = ("released", "waiting", "unrunnable", "processing", "memory", "erred")
    return max(0, counts["tasks"] - sum(counts[state] for state in others))


def member_of(worker: Mapping[str, Any], groups: Mapping[str, int]) -> tuple[str, str]:
    """Find out the group and the member of a worker; as `perennial.preloads.members` does."""
    said = worker.get("perennial")
    if isinstance(said, Mapping) and {"group", "member"} <= set(said):
        return str(said["group"]), str(said["member"])
    name = str(worker["name"])
    group = max((each for each in groups if name.startswith(f"{each}-")), key=len, default="")
    stem, _, process = name.rpartition("-")
    return group, stem if groups.get(group, 1) > 1 and process.isdigit() else name


def _group(workers: Iterable[tuple[str, Mapping[str, Any]]]) -> GroupSeen:
    """Sum up the workers of a group."""
    members: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for member, worker in workers:
        members[member].append(worker)
    everyone = [worker for processes in members.values() for worker in processes]
    present = [
        processes
        for processes in members.values()
        if any(worker["status"] != PARKED for worker in processes)
    ]
    staying = [worker for processes in present for worker in processes]
    nbytes = sum(map(data, everyone))
    return GroupSeen(
        members=len(present),
        busy=sum(any(map(given, processes)) for processes in present),
        # As in `perennial.preloads.answering.group_totals`: the data of parked members is to come.
        memory=sum(worker["metrics"].get("memory", 0) for worker in staying)
        + (nbytes - sum(map(data, staying))),
        limit=sum(worker["memory_limit"] for worker in staying),
        nbytes=nbytes,
        spilled=sum(
            worker["metrics"].get("spilled_bytes", {}).get("disk", 0) for worker in everyone
        ),
        names=tuple(members),
    )


def data(worker: Mapping[str, Any]) -> int:
    """How much data a worker holds, as of its last heartbeat."""
    return int(worker["metrics"].get("managed_bytes", 0))


def _given(workers: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
    return sum(given(worker) for _, worker in workers)


def given(worker: Mapping[str, Any]) -> int:
    """How many tasks were given to a worker, as of its last heartbeat."""
    counts = worker["metrics"].get("task_counts", {})
    return int(sum(counts.get(state, 0) for state in GIVEN))


def _unknown(tasks: int) -> Load:
    return Load(tasks=tasks, unknown=tasks)
