"""`explain`, `history`, `scaler`: what the scaler does, and why."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.life import Cluster, ItsFile, choose, named
from perennial.cli.steer import ask, reach, warn
from perennial.errors import PerennialError
from perennial.state import command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perennial.scaler.history import Record
    from perennial.scaler.scaler_client import Report

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Action(StrEnum):
    """What `perennial scaler` does."""

    run = "run"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What can be found out about a cluster's scaler."""

    #: The cluster's name.
    cluster: str
    #: Records: from the scaler's own files, complete, and from the scheduler, with less in them.
    filed: list[Record]
    reported: list[Record]
    #: What the scheduler knows of it; None when the scheduler does not answer.
    report: Report | None
    #: What is wrong with all that.
    notes: tuple[str, ...]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(explain)
    app.command()(history)
    app.command()(scaler)


def explain(
    group: Annotated[str | None, typer.Argument(help="A worker group; all by default.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Time: 14:05, '10 min ago' or 2026-03-01T14:05. Default: now."
        ),
    ] = None,
    name: Cluster = None,
    file: ItsFile = None,
    as_json: Json = False,
) -> None:
    """Explain the size of a worker group.

    Shows what the scaler observed, how it decided, and why.
    """
    from perennial.scaler import explaining
    from perennial.scaler.policy import RULES

    until = None if at is None else explaining.moment(at, _now())
    known = _learn(named(name, file))
    groups = _groups(known, until)
    if group is not None:
        from perennial.scaler.history import known_group

        known_group(group, list(groups.values()), known.cluster)
        groups = {group: groups[group]}
    wrong = _wrong(known) if until is None else _wrong_then(known, groups.values())
    if as_json:
        print(json.dumps({"cluster": known.cluster, "notes": wrong, "groups": groups}, indent=2))
        return
    paragraphs = ["\n".join(wrong)] if wrong else []
    for record in groups.values():
        first, *rest = explaining.explain(record, time.time(), RULES)
        paragraphs.append("\n".join([first, *(f"  {line}" for line in rest)]))
    print("\n\n".join(paragraphs))


def history(
    group: Annotated[str | None, typer.Argument(help="A worker group; all by default.")] = None,
    since: Annotated[
        str, typer.Option(metavar="DURATION", help="Length of the period: 30 min, 2h, 7d.")
    ] = "1d",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Output file of a plot, .html.")
    ] = None,
    name: Cluster = None,
    file: ItsFile = None,
    as_json: Json = False,
) -> None:
    """List the size changes of worker groups, with reasons.

    With --plot, draw sizes and demand over time.
    """
    from perennial.scaler import explaining
    from perennial.scaler.history import changes, known_group, merge

    if plot is not None and plot.suffix != ".html":
        raise PerennialError(
            f"{plot}: found {plot.suffix or 'no ending'}; allowed: .html, a page whose tool saves"
            " plots as .svg"
        )
    now = time.time()
    begin = now - explaining.seconds(since)
    known = _learn(named(name, file))
    records = merge(known.filed, known.reported)
    if group is not None:
        known_group(group, records, known.cluster)
        records = [record for record in records if record["group"] == group]
    warn(_wrong(known))
    if plot is not None:
        recent = [record for record in records if float(record["time"]) >= begin]
        _draw(known.cluster, recent, plot, since)
        return
    found = [change for change in changes(records) if change.time >= begin]
    if as_json:
        print(json.dumps([change.to_json() for change in found], indent=2))
        return
    if not found:
        print(f"{known.cluster}: no change in {explaining.lasting(now - begin)}")
    for each in found:
        size = f"{each.before} → {each.to}" if each.before != each.to else f"stays {each.to}"
        stamp = explaining.clock(each.time, now)
        print(f"{stamp:>8}  {each.group:16} {size:>11}  {each.rule:12} {each.text}")


def scaler(
    action: Annotated[Action, typer.Argument(help="Run in the foreground.")],
    name: Cluster = None,
    file: ItsFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Record decisions without resizing any group.")
    ] = False,
) -> None:
    """Run the scaler of a cluster in the foreground."""
    from perennial.paths import cluster_state
    from perennial.placement import require_here

    chosen = choose(name, file)
    paths = cluster_state(chosen)
    require_here(paths)
    settings, dask = paths.config / "scaler.json", paths.config / "scaler.yaml"
    if not settings.is_file():
        raise PerennialError(
            f"{chosen}: no {settings}; {command('up', chosen)} writes it for a cluster that"
            " stands here and has a group with `scale`"
        )
    if dask.is_file():
        os.environ["DASK_CONFIG"] = str(dask)
    more = ["--dry-run"] if dry_run else []
    os.execv(sys.executable, [sys.executable, "-m", "perennial.scaler", str(settings), *more])  # noqa: S606


# What is known


def _learn(name: str | None) -> Knowledge:
    """Read the scaler's files, where it stands here, and ask the scheduler."""
    from perennial import paths
    from perennial.scaler import records, scaler_client, timing
    from perennial.scaler.history import read

    connection = reach(name)
    cluster = connection.cluster
    filed: list[Record] = []
    notes: list[str] = []
    if cluster in paths.known_clusters():
        filed, notes = read(records.files(paths.cluster_state(cluster).scaler))
    report = None
    try:
        report = ask(connection, scaler_client.report, timing.SCHEDULER_ANSWER)
    except PerennialError as error:
        if not filed:
            raise
        notes.append(str(error))
    reported = list(report.records) if report is not None else []
    if not filed and not reported:
        raise PerennialError(
            f"{cluster}: no scaler has recorded anything; a group with `scale` in the cluster file"
            " has one, and `perennial status` says whether it runs"
        )
    return Knowledge(cluster, filed, reported, report, tuple(notes))


def _groups(known: Knowledge, until: float | None) -> dict[str, Record]:
    """Find the record of each group that held at a time, the most complete one."""
    from perennial.scaler.explaining import clock
    from perennial.scaler.history import latest

    if until is None and known.report is not None and known.report.groups:
        return dict(known.report.groups)
    found = {**latest(known.reported, until), **latest(known.filed, until)}
    if not found:
        first = min(float(record["time"]) for record in (*known.filed, *known.reported))
        raise PerennialError(
            f"{known.cluster}: the records begin at {clock(first, time.time())}; ask for a later"
            " time"
        )
    return found


def _wrong(known: Knowledge) -> list[str]:
    """Say in sentences what is wrong now."""
    if known.report is None:
        return list(known.notes)
    return [*known.report.wrong, *known.notes]


def _wrong_then(known: Knowledge, records: Iterable[Record]) -> list[str]:
    """Say in sentences what was wrong with the work at the time of some records."""
    from perennial.scaler.explaining import infeasible

    texts = (text for record in records for text in infeasible(record))
    return [*dict.fromkeys(texts), *known.notes]


def _draw(cluster: str, records: list[Record], file: Path, since: str) -> None:
    from perennial.files import write_atomic

    if not records:
        raise PerennialError(f"{cluster}: no record within {since}; ask for a longer --since")
    title = f"{cluster}: worker groups over time"
    try:
        from perennial.scaler.dashboard_page import document
    except ImportError as error:
        raise PerennialError(f"{file}: a plot needs Bokeh ({error}); `pip install bokeh`") from None
    write_atomic(file, document(records, title), 0o644)
    print(f"{file}: {len(records)} records")


def _now() -> Any:
    from datetime import datetime

    return datetime.now().astimezone()
