"""Read from the scheduler what its work asks of each group.

`PreloadSource` asks the scheduler's own preload (`perennial.preloads.demand`);
`perennial.scaler.sources` makes do with its dashboard where there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from perennial.errors import PerennialError
from perennial.preloads.messages import KindOfWork, Request
from perennial.scaler import timing
from perennial.scaler.values import Demand, GroupSeen, Load, MemberSeen, Signature, Work
from perennial.scheduler_connection import SchedulerConnection
from perennial.tls import Tls

logger = logging.getLogger("perennial.scaler.demand")

#: Version of the preload's answers that is understood here.
PROTOCOL = 1
#: Oldest distributed whose scheduler is known to work.
OLDEST = (2026, 6)


class DemandError(PerennialError):
    """The demand is not known now; no decision may be made that cannot be undone."""


class SchedulerAway(DemandError):  # noqa: N818  (what it says of the scheduler)
    """The scheduler does not answer."""


class OtherVersion(DemandError):  # noqa: N818  (what it says of the scheduler)
    """The scheduler answers what is not understood here."""


class NoPreload(DemandError):  # noqa: N818  (what it says of the scheduler)
    """The scheduler does not know the operations of our preload."""


class DemandUnknown(DemandError):  # noqa: N818  (what it says of the demand)
    """The scheduler's preload has failed."""


class Source(Protocol):
    """Where demand is read."""

    async def read(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
    ) -> tuple[Demand, list[Request]]:
        """Read the demand, and what people request of the scaler."""
        ...

    async def wait_for_change(self) -> bool:
        """Wait for something that should be looked at now, for half a minute or so."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class PreloadSource:
    """Asks the scheduler's preload, over a connection of the scaler's own."""

    def __init__(
        self,
        address: str,
        groups: Mapping[str, int],
        tls: Tls | None = None,
        timeout: float = timing.SCHEDULER_ANSWER,
    ) -> None:
        self.address = address
        self.groups = dict(groups)
        self.timeout = timeout
        self._demand = SchedulerConnection(address, tls, timeout)
        self._news = SchedulerConnection(address, tls, timeout)
        self._heard = 0  # number of the latest change that is known
        self._names: dict[str, dict[str, None]] = {}
        self._since = ("", -1)

    async def read(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
    ) -> tuple[Demand, list[Request]]:
        """Ask once; see `Source.read`."""
        answer = await self._ask(
            detail=list(detail),
            report=None if report is None else dict(report),
            acknowledged=list(acknowledged),
            groups=self.groups,
            since=list(self._since),
        )
        if answer is None:
            await self._refuse()
        self._check(answer)
        if answer["fault"]:
            raise DemandUnknown(
                f"scheduler at {self.address}: {answer['fault']}; "
                "see its log; restart it when its work is done"
            )
        self._learn(answer["names"], answer["scheduler"])
        self._heard = answer["news"]
        return demand(answer, self._names), list(answer["wishes"])

    async def wait_for_change(self) -> bool:
        """Wait at the scheduler; see `Source.wait_for_change`.

        On a connection of its own: an answer that does not come shall not delay the demand.
        """
        known = self._heard
        try:
            timeout = timing.CHANGE + self.timeout
            told = await self._news.ask(
                "perennial_news", timeout, known=known, seconds=timing.CHANGE
            )
        except OSError:  # TimeoutError is an OSError
            told = None
        if not isinstance(told, int):  # no answer, or an unknown operation
            await self._news.close()
            await asyncio.sleep(self.timeout)
            return False
        news = told not in (known, self._heard)  # a tick may have seen them meanwhile
        self._heard = told
        return news

    async def close(self) -> None:
        """Close the connections."""
        await self._demand.close()
        await self._news.close()

    async def _ask(self, operation: str = "perennial_demand", **question: Any) -> Any:
        """Ask the scheduler; say in one line where it does not answer."""
        try:
            return await self._demand.ask(operation, self.timeout, **question)
        except TimeoutError:
            await self._demand.close()  # its late answer would be that of the next question
            raise SchedulerAway(
                f"scheduler at {self.address}: no answer in {self.timeout:g} s; "
                "it is away or busy; asks again"
            ) from None
        except OSError as error:
            raise SchedulerAway(
                f"scheduler at {self.address}: does not answer ({_reason(error)}); asks again"
            ) from None

    def _check(self, answer: Any) -> None:
        """Refuse an answer that would be misunderstood."""
        found = answer.get("protocol") if isinstance(answer, Mapping) else None
        if found != PROTOCOL:
            theirs = answer.get("versions", {}) if isinstance(answer, Mapping) else {}
            raise OtherVersion(
                f"scheduler at {self.address}: found version {found} of demand, of dask-perennial "
                f"{theirs.get('dask-perennial', 'unknown')}; allowed: version {PROTOCOL}; "
                "install the same dask-perennial for the scheduler and the scaler"
            )
        self._check_distributed(answer["versions"]["distributed"])

    async def _refuse(self) -> NoReturn:
        """Refuse a scheduler without the preload: an early one, or one whose pages may do."""
        found = await self._ask("versions")
        packages = found.get("packages", {}) if isinstance(found, Mapping) else {}
        self._check_distributed(str(packages.get("distributed", "")))
        raise NoPreload(
            f"scheduler at {self.address}: knows no demand; "
            "start it with --preload perennial.preloads.demand"
        )

    def _check_distributed(self, version: str) -> None:
        """Refuse a scheduler that is older than what is known to work."""
        if _numbers(version) < OLDEST:
            raise OtherVersion(
                f"scheduler at {self.address}: found distributed {version or 'unknown'}; allowed: "
                f"{'.'.join(map(str, OLDEST))} or later; install one of these"
            )

    def _learn(self, names: Mapping[str, Any], scheduler: str) -> None:
        """Bring the members' names up to date."""
        if "all" in names:
            self._names = {group: dict.fromkeys(each) for group, each in names["all"].items()}
        for group, member, here in names.get("changes", ()):
            members = self._names.setdefault(group, {})
            if here:
                members[member] = None
            else:
                members.pop(member, None)
        self._since = (scheduler, names["change"])


def demand(answer: Mapping[str, Any], names: Mapping[str, Collection[str]]) -> Demand:
    """Make a value of the preload's answer."""
    groups = {
        name: GroupSeen(
            **sums,
            names=tuple(names.get(name, ())),
            detail=_members(answer["detail"].get(name)),
        )
        for name, sums in answer["groups"].items()
    }
    return Demand(
        scheduler=answer["scheduler"],
        uptime=answer["uptime"],
        work=tuple(map(_work, answer["work"])),
        groups=groups,
        clients=answer["clients"],
        scatters=answer.get("scatters", 0),  # a scheduler of an earlier release does not count them
    )


def _members(rows: Sequence[Sequence[Any]] | None) -> dict[str, MemberSeen] | None:
    if rows is None:
        return None
    return {row[0]: MemberSeen(*row) for row in rows}


def _work(entry: KindOfWork) -> Work:
    resources = tuple((name, amount) for name, amount in entry["resources"])
    return Work(
        signature=Signature(resources, entry["pinned"]),
        queued=Load(*entry["queued"]),
        unrunnable=Load(*entry["unrunnable"]),
        processing={group: Load(*load) for group, load in entry["processing"].items()},
        waiting=entry["waiting"],
        oldest=entry["oldest"],
        elapsed=entry["elapsed"],
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Take the numbers of a version: ``2026.8.0`` is (2026, 8)."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def _reason(error: OSError) -> str:
    """Find the innermost reason in what Dask raises."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).partition("\n")[0] or type(cause).__name__
