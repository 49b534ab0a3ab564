"""`pause`, `resume`, and the scaler's part of `scale` and `status`: requests that it takes up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from perennial.cli.life import Cluster, ItsFile, named, platform_of
from perennial.cli.platform import runtime
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.connect import Connection
    from perennial.preloads.messages import Request
    from perennial.scaler.history import Record
    from perennial.scaler.scaler_client import Report

Found = TypeVar("Found")

#: Seconds in which a scaler takes a request up and says so: some ticks.
TAKEN_UP = 20.0
#: Reports of the scaler on which a size is refused, and seconds to wait for each.
LOOKS, LOOK = 3, 6.0
#: Seconds more for a question that another one passes on: a program has to start there.
PASSED_ON = 30.0
#: Seconds in which the scheduler must answer `status`, which has more to show.
OVERVIEW_TIMEOUT = 3.0


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(pause)
    app.command()(resume)


def pause(name: Cluster = None, file: ItsFile = None) -> None:
    """Pause autoscaling.

    The scaler keeps recording its decisions but resizes no group.
    """
    connection = reach(named(name, file))
    _request(connection, [{"kind": "pause"}], lambda report: report.paused)
    print(f"{connection.cluster}: autoscaling is paused; `perennial resume` ends that")


def resume(name: Cluster = None, file: ItsFile = None) -> None:
    """Resume autoscaling."""
    connection = reach(named(name, file))
    _request(connection, [{"kind": "resume"}], lambda report: not report.paused)
    print(f"{connection.cluster}: autoscaling is resumed")


def reach(name: str | None) -> Connection:
    """Return how a cluster's scheduler is reached; through the tunnel where there is one."""
    from perennial import connect, paths
    from perennial.placement import require_here

    connection = connect.find(name)
    require_here(paths.cluster_state(connection.cluster))
    if not paths.tunnel(connection.cluster).is_file():
        return connection
    from perennial import tunnel

    return tunnel.through(connection)


def chosen(name: str | None) -> str:
    """Say which cluster is meant: one of this user's, or one whose bundle they have."""
    from perennial import connect, paths
    from perennial.placement import require_here

    if not paths.known_clusters():
        return connect.find(name).cluster
    cluster = connect.choose(name)
    require_here(paths.cluster_state(cluster))
    return cluster


def is_scaled(name: str, group: str) -> bool:
    """Whether the size of a group belongs to a scaler; elsewhere than here, all may."""
    from perennial import paths

    return name not in paths.known_clusters() or group in scaled(name)


def scaled(name: str) -> tuple[str, ...]:
    """Name the groups of a cluster of this user whose size belongs to a scaler."""
    from perennial.paths import cluster_state
    from perennial.registry import has_fleet
    from perennial.spec import load

    file = cluster_state(name).spec
    if not file.is_file():
        return ()
    spec = load(file, remembered=True)
    return tuple(spec.scaled) if spec.scaler is not None and has_fleet(spec.platform) else ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How the scaler and its groups stand."""

    #: What keeps the scaler from its work.
    wrong: Sequence[str]
    groups: Mapping[str, Record]
    #: The same of each group, for a person.
    lines: Sequence[str]

    def as_json(self) -> dict[str, object]:
        """Write it for a script."""
        return {"wrong": [*self.wrong], "groups": dict(self.groups), "lines": [*self.lines]}


def standing(name: str) -> Standing | None:
    """Describe the scaler and its groups, for `perennial status`; None without a scaler."""
    if not scaled(name):
        return None
    from perennial.scaler import explaining, scaler_client

    connection = reach(name)
    try:
        report = ask(connection, scaler_client.report, OVERVIEW_TIMEOUT)
    except PerennialError as error:
        return Standing([str(error)], {}, [])
    lines = [explaining.line(record) for record in report.groups.values()]
    return Standing(report.wrong, report.groups, lines)


def pin(
    name: str, sizes: Mapping[str, int | None], seconds: float | None, force: bool = False
) -> None:
    """Give sized groups a size whatever the demand, or let them follow it again; say what comes."""
    from perennial.scaler import explaining, scaler_client

    connection = reach(name)
    requests = [
        scaler_client.unpin(group)
        if size is None
        else scaler_client.pin(group, size, seconds, force)
        for group, size in sizes.items()
    ]

    def taken_up(report: Report) -> bool:
        return all(report.pins.get(group) == size for group, size in sizes.items())

    before = _request(connection, requests, taken_up, sizes)
    until = explaining.clock(time.time() + seconds, time.time()) if seconds else "further notice"
    for group, size in sizes.items():
        if size is None:
            print(f"{name}: {group} is autoscaled again")
        else:
            asked = before.get(group, {}).get("asked", "?")
            print(f"{name}: {group} {asked} → {size}, pinned until {until}; --auto ends that")


def _request(
    connection: Connection,
    requests: Sequence[Request],
    done: Callable[[Report], bool],
    groups: Mapping[str, Any] | None = None,
) -> dict[str, Record]:
    """Leave requests, wait until the scaler has taken them up; give the groups as they were."""
    from perennial.scaler import scaler_client, timing

    def check(found: Report) -> None:
        for each in requests:
            if each["kind"] == "pin":
                request = (
                    each["group"],
                    each["size"],
                    connection.cluster,
                    each.get("force", False),
                )
                scaler_client.check_size(found, *request)

    async def requested(scheduler: Any) -> tuple[Report, Report]:
        before = await scaler_client.report(scheduler)
        for group in groups or ():
            scaler_client.check_group(before, group, connection.cluster)
        before = await accepted(scheduler, before, check)
        await scaler_client.request(scheduler, *requests)
        return before, await scaler_client.wait(scheduler, before, done, TAKEN_UP)

    before, after = ask(connection, requested, timing.SCHEDULER_ANSWER + LOOKS * LOOK + TAKEN_UP)
    if not done(after):
        why = after.silence or "the scaler has not taken it up yet; see `perennial explain`"
        raise PerennialError(f"{connection.cluster}: the scheduler keeps the request, but {why}")
    if after.latest.get("mode") == "dry-run":
        warn(["the scaler only records what it would do (dry-run)"])
    if after.paused and groups is not None:
        warn(["the scaler is paused; `perennial resume` resumes autoscaling"])
    return before.groups


async def accepted(scheduler: Any, report: Report, check: Callable[[Report], None]) -> Report:
    """Return a report on which a check passes; the check's refusal if no newer one passes it.

    Right after `up` the scaler may not know yet what was just deployed, or has said nothing at all,
    and with it nothing of limits.
    """
    from perennial.scaler import scaler_client

    for _ in range(LOOKS - 1):
        with suppress(PerennialError):
            check(report)
            if report.latest:
                return report
        report = await scaler_client.wait(scheduler, report, lambda _: True, LOOK)
    check(report)
    return report


def ask(
    connection: Connection, question: Callable[[Any], Awaitable[Found]], timeout: float
) -> Found:
    """Ask what keeps the scaler's reports: the scheduler of a cluster, else its platform's part."""
    from perennial.paths import known_clusters
    from perennial.scaler import scaler_client

    name = connection.cluster
    desk = runtime(platform_of(name), name).scaler() if name in known_clusters() else None
    if desk is not None:
        return asyncio.run(scaler_client.within(timeout + PASSED_ON, question(desk), name))
    return scaler_client.ask(connection.scheduler_address, connection.tls, question, timeout)


def warn(notes: Sequence[str]) -> None:
    """Say what a person should know, beside what was asked for."""
    for note in notes:
        typer.echo(f"warning: {note}", err=True)
