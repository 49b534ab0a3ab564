"""Ask a cluster's scaler: its reports, and send requests to it.

Both go through the scheduler, which the scaler asks at every tick. So one way serves every
platform, needs no port of its own, and is as safe as a client's connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from perennial.errors import PerennialError
from perennial.preloads.messages import Request
from perennial.scaler import timing
from perennial.scaler.explaining import explain, infeasible, line
from perennial.scaler.history import Record
from perennial.tls import Tls

Found = TypeVar("Found")

#: What is raised over an answer of another form: any client may change what a scheduler answers.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Report:
    """What the scheduler knows of the scaler."""

    #: What the scaler has said last; empty when it never has.
    latest: Mapping[str, Any]
    #: How many seconds ago; None when it never has.
    age: float | None
    #: Its latest records, the oldest first.
    records: tuple[Record, ...] = ()

    @property
    def groups(self) -> dict[str, Record]:
        """The latest record of each group, by name."""
        return {
            str(name): {**record, "group": name}
            for name, record in (self.latest.get("groups") or {}).items()
        }

    @property
    def fixed(self) -> frozenset[str]:
        """Groups that the scaler only watches: their size is not its own."""
        return frozenset(map(str, self.latest.get("fixed") or ()))

    @property
    def paused(self) -> bool:
        """Whether somebody has paused the scaler."""
        return bool((self.latest.get("wishes") or {}).get("paused"))

    @property
    def pins(self) -> dict[str, int]:
        """The sizes that people have set, by group."""
        found = (self.latest.get("wishes") or {}).get("pins") or {}
        return {str(group): int(each["size"]) for group, each in found.items()}

    @property
    def infeasible(self) -> tuple[str, ...]:
        """Work that no group can run, a sentence each."""
        return infeasible(self.latest)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong with the scaler or the work, a sentence each."""
        if self.silence:  # what it has said last may be over long since
            return (self.silence,)
        trouble = str(self.latest.get("trouble") or "")
        return (*self.infeasible, *filter(None, (trouble,)))

    @property
    def silence(self) -> str:
        """Say for how long the scaler has not answered; empty when it answers."""
        if self.age is None:
            return "the scaler has not answered yet; see `perennial logs scaler`"
        if self.age <= timing.SILENCE:
            return ""
        return f"the scaler has not answered for {self.age:.0f} s; see `perennial logs scaler`"


def pin(group: str, size: int, seconds: float | None = None, force: bool = False) -> Request:
    """Request a size for a group whatever the demand."""
    requested: Request = {"kind": "pin", "group": group, "size": size, "seconds": seconds}
    # Said only where it matters: a scheduler of an earlier release does not know it.
    return {**requested, "force": True} if force else requested


def unpin(group: str) -> Request:
    """Request that a group follows its demand again."""
    return {"kind": "unpin", "group": group}


def bounds(group: str, least: int | None, most: int | None) -> Request:
    """Request other bounds for a group than those of the cluster file."""
    return {"kind": "bounds", "group": group, "min": least, "max": most}


def unbound(group: str) -> Request:
    """Request the bounds of the cluster file for a group again."""
    return {"kind": "unbound", "group": group}


async def report(scheduler: Any) -> Report:
    """Read what the scaler has said, as far as it has the form that it should have."""
    answer = _understood(await scheduler.perennial_report())
    try:
        return _tried(_report(answer))
    except MALFORMED as error:
        raise PerennialError(f"the scheduler's answer {_form(error)}") from None


def _report(answer: Any) -> Report:
    names = answer["fields"]
    records = [
        {"group": group, **dict(zip(names, values, strict=True))}
        for group, ring in answer["records"].items()
        for values in ring
        if values[names.index("time")] is not None
    ]
    records.sort(key=lambda record: float(record["time"]))
    return Report(answer["report"] or {}, answer["age"], tuple(records))


def _tried(found: Report) -> Report:
    """Compute all properties of a report, so that a malformed one is found here."""
    for record in found.groups.values():
        explain(record, 0.0, {})
        line(record)
    _ = found.fixed, found.paused, found.pins, found.wrong
    return found


def _form(error: Exception) -> str:
    return (
        f"has another form than expected ({type(error).__name__}); `perennial doctor` compares"
        " the versions"
    )


async def request(scheduler: Any, *requests: Mapping[str, Any]) -> list[str]:
    """Leave requests for the scaler, in this order."""
    try:
        answers = [await scheduler.perennial_wish(wish=dict(each)) for each in requests]
    except ValueError as error:
        raise PerennialError(str(error)) from None
    return [str(_understood(answer)) for answer in answers]


async def wait(
    scheduler: Any, before: Report, done: Callable[[Report], bool], timeout: float
) -> Report:
    """Wait until the scaler reports that something is so."""
    end = monotonic() + timeout
    while True:
        now = await report(scheduler)
        newer = now.latest.get("time") != before.latest.get("time")
        if (newer and done(now)) or monotonic() > end:
            return now
        await asyncio.sleep(0.25)


def check_group(found: Report, group: str, cluster: str) -> None:
    """Refuse a group that the scaler does not size."""
    if group in found.fixed:
        raise PerennialError(
            f"{group}: has no `scale` in the cluster file of {cluster}, so no scaler sizes it;"
            " change its `count` there, or run `perennial scale` where the cluster was deployed"
        )
    if found.age is not None and group not in found.groups:
        sized = sorted(found.groups.keys() - found.fixed)
        raise PerennialError(
            f"{group}: the scaler of {cluster} does not size this group; there is"
            f" {', '.join(sized) or 'none'}"
        )


def check_size(found: Report, group: str, size: int, cluster: str, force: bool = False) -> None:
    """Refuse a size beyond the group's max, or beyond what its platform holds.

    Force is named only where it helps.
    """
    limits = (found.latest.get("limits") or {}).get(group) or {}
    largest, most, utmost = limits.get("max"), limits.get("most"), limits.get("utmost")
    now = int((found.groups.get(group) or {}).get("asked") or 0)
    if utmost is not None and size > max(utmost, now):
        raise PerennialError(
            f"{group}={size}: allowed: up to {utmost},"
            f" {limits.get('beyond') or 'which is all that the platform holds; ask for fewer'}"
        )
    if force:
        return
    if largest is not None and size > largest:
        raise PerennialError(
            f"{group}={size}: allowed: up to {largest}, the largest scale.max of {group} in the"
            f" cluster file of {cluster}; ask for fewer, or add --force"
        )
    if most is not None and size > max(most, now):
        why = f": {limits['room']}" if limits.get("room") else ""
        raise PerennialError(
            f"{group}={size}: allowed: up to {most}, which is what the platform holds{why};"
            " ask for fewer, or add --force"
        )


def ask(
    address: str,
    tls: Tls | None,
    question: Callable[[Any], Awaitable[Found]],
    timeout: float = timing.SCHEDULER_ANSWER,
) -> Found:
    """Connect to a scheduler in a process apart, ask, and disconnect.

    For callers without an event loop; a child uses Dask's protocol, see `perennial.isolated`.
    """

    async def asked() -> Found:
        from perennial import isolated

        try:
            async with isolated.scheduler(address, tls, timeout) as one:
                async with asyncio.timeout(timeout):
                    return await question(one)
        except (OSError, TimeoutError, isolated.ChildError) as error:
            raise away(address, timeout, error) from None
        except MALFORMED as error:
            raise PerennialError(f"{address}: the scheduler's answer {_form(error)}") from None

    return asyncio.run(asked())


async def within(timeout: float, question: Awaitable[Found], name: str) -> Found:
    """Await an answer of whoever keeps a scaler's reports in the place of its scheduler."""
    try:
        async with asyncio.timeout(timeout):
            return await question
    except TimeoutError:
        raise PerennialError(
            f"{name}: the scaler has not answered within {timeout:g} s; see `perennial logs"
            " scaler` and `perennial doctor`"
        ) from None


def away(address: str, timeout: float, error: BaseException) -> PerennialError:
    """Say in one line that a scheduler does not answer."""
    lines = str(error).splitlines()
    why = f" ({lines[0][:200]})" if lines and not isinstance(error, TimeoutError) else ""
    return PerennialError(
        f"{address}: the scheduler has not answered within {timeout:g} s{why}; see"
        " `perennial status` and `perennial doctor`"
    )


def _understood(answer: Any) -> Any:
    """Tell an answer from that of a scheduler that does not know the question."""
    if answer is None:
        raise PerennialError(
            "this scheduler has no connection to a scaler: it runs without"
            " `--preload perennial.preloads.demand`; `perennial up` or `pulumi up` starts it with"
            " that"
        )
    return answer
