"""`list` and `status`: the clusters, and the state of one."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.life import Cluster, ItsFile, choose, platform_of, recorded_platform
from perennial.cli.platform import runtime
from perennial.errors import PerennialError
from perennial.state import command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perennial.cli.steer import Standing
    from perennial.contracts import Status
    from perennial.pages import Counts

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class _Row:
    """A cluster in `list`, as JSON shows it."""

    name: str
    platform: str
    state: str
    workers: int | None = None
    scheduler: str = ""
    file: str | None = None
    #: Of the user's own Pulumi, which deploys it.
    stack: str | None = None


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("list")(list_clusters)
    app.command()(status)


def list_clusters(as_json: Json = False) -> None:
    """List your clusters."""
    from perennial.paths import known_clusters

    found = [_row(name) for name in known_clusters()]
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return
    if not found:
        print("no clusters; `perennial init` writes a cluster file, `perennial up` starts it")
    for row in found:
        workers = "" if row.workers is None else f"{row.workers} workers"
        source = f"stack {row.stack}" if row.stack else row.file or ""
        print(
            f"{row.name:20} {row.platform:8} {row.state:6} {workers:>13}  {row.scheduler}  {source}"
        )


def _row(name: str) -> _Row:
    """Describe a cluster; one that runs on another machine is not looked at."""
    from perennial.paths import cluster_state
    from perennial.placement import elsewhere
    from perennial.state import Stack, State

    paths, platform = cluster_state(name), recorded_platform(name)
    if host := elsewhere(paths):
        return _Row(name, platform, f"on {host}")
    try:
        seen, file = runtime(platform, name, "overview").overview(), State.load(paths).file
        stack = Stack.load(paths)
    except PerennialError as error:  # the others are listed all the same
        return _Row(name, platform, f"unknown: {error}")
    state = "up" if seen.up else "down"
    owner = None if stack is None else str(stack)
    return _Row(name, platform, state, seen.workers, seen.scheduler, file, owner)


def status(
    name: Cluster = None,
    file: ItsFile = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show services, workers and tasks of a cluster."""
    chosen = choose(name, file)
    if as_json:
        print(json.dumps(_as_json(chosen, *_status_of(chosen)), indent=2))
        return
    from perennial.cli.output import console as make_console

    console = make_console(soft_wrap=True)
    if not watch:
        console.print(_table(chosen, *_status_of(chosen)))
        return
    from rich.live import Live

    with Live(_table(chosen, *_status_of(chosen)), console=console, auto_refresh=False) as live:
        while True:
            live.update(_table(chosen, *_status_of(chosen)), refresh=True)
            time.sleep(1.0)


def _status_of(name: str) -> tuple[Status, Standing | None]:
    from perennial.cli.steer import standing

    seen = runtime(platform_of(name), name, "status").status()
    return seen, standing(name) if seen.scheduler else None


def _as_json(name: str, seen: Status, sized: Standing | None) -> dict[str, object]:
    """Write a status for a script; what a platform does not know has no key."""
    own = {} if seen.supervisord is None else {"supervisord": seen.supervisord}
    services = [
        {key: value for key, value in asdict(row).items() if value is not None}
        for row in seen.services
    ]
    return {
        "name": name,
        **own,
        "sizes": dict(seen.sizes),
        "services": services,
        "scheduler": asdict(seen.scheduler) if seen.scheduler else None,
        "scaler": sized and sized.as_json(),
    }


def _table(name: str, seen: Status, sized: Standing | None) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    machines = any(row.machine is not None for row in seen.services)
    words = ("service", *(["machine"] if machines else []), "state")
    for column in (*words, "pid", "uptime", "restarts", "memory", "cpu"):
        right = column not in words
        table.add_column(column, justify="right" if right else "left")
    for row in seen.services:
        good = row.state in ("RUNNING", "STARTING")
        table.add_row(
            # A str would be read as markup.
            Text(row.service),
            *([Text(row.machine or "")] if machines else []),
            Text(row.state, style="" if good else "red"),
            str(row.pid or "-"),
            _uptime(row.uptime),
            str(row.restarts),
            f"{row.memory / 2**20:.0f} MiB",
            f"{100 * row.cpu:.0f} %",
        )
    last = [_numbers(seen.scheduler), *(row.note for row in seen.services if row.note)]
    if seen.supervisord == 0:
        starts = f"{command('up', name)} starts it and adopts what still runs"
        last.append(f"supervisord does not run; {starts}")
    if sized is not None:
        last += [*sized.lines, *sized.wrong]
    return Group(table, Text(f"{name}: " + "\n".join(last)))


def _numbers(counts: Counts | None) -> str:
    from perennial.spec.words import plural

    if counts is None:
        return "the scheduler does not answer"
    return (
        f"{plural(counts.workers, 'worker')}, {plural(counts.threads, 'thread')},"
        f" {plural(counts.clients, 'client')};"
        f" tasks: {counts.processing} running, {counts.waiting} waiting,"
        f" {counts.unrunnable} that no worker can run, {counts.erred} failed;"
        f" {plural(counts.memory, 'result')}, {counts.nbytes / 2**20:.0f} MiB"
    )


def _uptime(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock
