"""`status`, `list`, `logs`, `restart`, `scale`, `rotate`, `open`, `enable`, `disable`."""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.life import Cluster, ItsFile, choose, named, platform_of, recorded_platform
from perennial.cli.platform import Runtime, runtime
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perennial.certificates import Pair


class Page(StrEnum):
    """What `open` opens."""

    jupyter = "jupyter"
    dashboard = "dashboard"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Skip the confirmation prompt.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("list")(list_clusters)
    app.command()(status)
    app.command()(logs)
    app.command()(restart)
    app.command()(scale)
    app.command()(rotate)
    app.command()(revoke)
    app.command("open")(open_jupyter)
    app.command()(enable)
    app.command()(disable)


def _running(name: str) -> Runtime:
    """Return the functions of the platform that a cluster stands on."""
    return runtime(platform_of(name))


def list_clusters(as_json: Json = False) -> None:
    """List your clusters."""
    from perennial.paths import known_clusters

    found = [_row(name) for name in known_clusters()]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print("no clusters; `perennial init` writes a cluster file, `perennial up` starts it")
    for row in found:
        workers = "" if row["workers"] is None else f"{row['workers']} workers"
        print(
            f"{row['name']:20} {row['platform']:8} {row['state']:6} {workers:>13}  "
            f"{row['scheduler']}  {row['file'] or ''}"
        )


def _row(name: str) -> dict[str, Any]:
    """Describe a cluster; one that runs on another machine is not looked at."""
    from perennial.paths import cluster_state
    from perennial.placement import elsewhere

    host = elsewhere(cluster_state(name))
    platform = recorded_platform(name)
    state = f"on {host}"
    if not host:
        try:
            return runtime(platform).row(name)
        except PerennialError as error:  # the others are listed all the same
            state = f"unknown: {error}"
    unknown = {"workers": None, "scheduler": "", "file": None}
    return {"name": name, "platform": platform, "state": state, **unknown}


def status(
    name: Cluster = None,
    file: ItsFile = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show services, workers and tasks of a cluster."""
    chosen = choose(name, file)
    if as_json:
        print(json.dumps(_look(chosen), indent=2))
        return
    from perennial.cli.output import console as make_console

    console = make_console(soft_wrap=True)
    if not watch:
        console.print(_table(_look(chosen)))
        return
    from rich.live import Live

    with Live(_table(_look(chosen)), console=console, auto_refresh=False) as live:
        while True:
            live.update(_table(_look(chosen)), refresh=True)
            time.sleep(1.0)


def _look(name: str) -> dict[str, Any]:
    from perennial.cli.steer import standing

    report: dict[str, Any] = _running(name).report(name)
    return {**report, "scaler": standing(name) if report["scheduler"] else None}


def _table(report: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from perennial.spec.words import plural

    table = Table(box=None, pad_edge=False, header_style="bold")
    machines = any("machine" in row for row in report["services"])
    words = ("service", *(["machine"] if machines else []), "state")
    for column in (*words, "pid", "uptime", "restarts", "memory", "cpu"):
        right = column not in words
        table.add_column(column, justify="right" if right else "left")
    for row in report["services"]:
        good = row["state"] in ("RUNNING", "STARTING")
        table.add_row(
            # A str would be read as markup.
            Text(row["service"]),
            *([Text(row["machine"])] if machines else []),
            Text(row["state"], style="" if good else "red"),
            str(row["pid"] or "-"),
            _uptime(row["uptime"]),
            str(row["restarts"]),
            f"{row['memory'] / 2**20:.0f} MiB",
            f"{100 * row['cpu']:.0f} %",
        )
    numbers = report["scheduler"]
    last = (
        f"{plural(numbers['workers'], 'worker')}, {plural(numbers['threads'], 'thread')},"
        f" {plural(numbers['clients'], 'client')};"
        f" tasks: {numbers['processing']} running, {numbers['waiting']} waiting,"
        f" {numbers['unrunnable']} that no worker can run, {numbers['erred']} failed;"
        f" {plural(numbers['memory'], 'result')}, {numbers['nbytes'] / 2**20:.0f} MiB"
        if numbers
        else "the scheduler does not answer"
    )
    for row in report["services"]:
        last += f"\n{row['note']}" if row.get("note") else ""
    if not report.get("supervisord", True):
        last += "\nsupervisord does not run; `perennial up` starts it and adopts what still runs"
    sized = report.get("scaler") or {"lines": (), "wrong": ()}
    last += "".join(f"\n{line}" for line in (*sized["lines"], *sized["wrong"]))
    return Group(table, Text(f"{report['name']}: {last}"))


def _uptime(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock


def logs(
    service: Annotated[
        str | None, typer.Argument(help="A service or a group; all by default.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Number of past lines.", min=0)] = 50,
    name: Cluster = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The cluster file, instead of the name.")
    ] = None,
) -> None:
    """Print the logs of a service or of all services."""
    chosen = choose(name, file)
    for title, line in _running(chosen).logs(chosen, service, lines, follow):
        print(line if title == service else f"{title}: {line}", flush=follow)


def restart(
    service: Annotated[str, typer.Argument(help="A service, a member or a group.")],
    name: Cluster = None,
    file: ItsFile = None,
    force: Force = False,
) -> None:
    """Restart a service or the members of a group.

    The members of a group are drained and restarted one after another.
    """
    chosen = choose(name, file)
    number = _running(chosen).restart(chosen, service, force)
    print(f"{chosen}: {service} restarted" + (f", {number} members" if number != 1 else ""))


def scale(
    sizes: Annotated[list[str], typer.Argument(metavar="GROUP=N...", help="New sizes.")],
    last: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="DURATION",
            help="How long the size is held, such as 2h. Default: until --auto.",
        ),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Return the named groups, given without =N, to autoscaling."),
    ] = False,
    name: Cluster = None,
    file: ItsFile = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Allow sizes beyond scale.max or the memory of the machines."),
    ] = False,
) -> None:
    """Set the size of worker groups.

    Workers are drained before they are removed.
    """
    from perennial.cli import steer

    wanted = dict(_free(text) if auto else _size(text) for text in sizes)
    seconds = None if last is None else _lasting(last, auto)
    chosen = steer.chosen(named(name, file))
    sized = [group for group in wanted if steer.is_scaled(chosen, group)]
    if sized:
        steer.pin(chosen, {group: wanted[group] for group in sized}, seconds, force)
    fixed = {group: size for group, size in wanted.items() if group not in sized}
    if not fixed:
        return
    if auto or seconds is not None:
        raise PerennialError(
            f"{', '.join(fixed)}: no scaler sizes it; --for and --auto are for groups with `scale`"
        )
    done = _running(chosen).scale(
        chosen, {group: size or 0 for group, size in fixed.items()}, force
    )
    for group, (before, now) in done.items():
        print(f"{chosen}: {group} " + (f"{before} → {now}" if before != now else f"stays {now}"))


def _size(text: str) -> tuple[str, int | None]:
    group, equals, number = text.partition("=")
    if not equals or not number.isdecimal() or int(number) > 100_000:
        raise PerennialError(f"{text!r}: write GROUP=N, such as cpu=4")
    return group, int(number)


def _free(text: str) -> tuple[str, int | None]:
    if "=" in text:
        raise PerennialError(f"{text!r}: found a size; with --auto write the group alone")
    return text, None


def _lasting(text: str, auto: bool) -> float:
    from perennial.scaler.explaining import seconds

    if auto:
        raise PerennialError("--for and --auto: a group that follows its demand has no end of it")
    return seconds(text)


def rotate(
    ca: Annotated[
        bool,
        typer.Option(
            "--ca",
            help="Replace the certificate authority and all keys: bundles stop working and running "
            "work is lost.",
        ),
    ] = False,
    name: Cluster = None,
    file: ItsFile = None,
    force: Force = False,
) -> None:
    """Renew the certificates of a cluster without restarts."""
    chosen = choose(name, file)
    if force and not ca:
        raise PerennialError("--force: found no --ca; without it nothing is asked")
    platform = _running(chosen)
    renewed = platform.rotate_authority(chosen, force) if ca else platform.rotate(chosen)
    print(f"{chosen}: {renewed}")


def revoke(
    person: Annotated[
        str, typer.Argument(metavar="PERSON", help="The name given to `connect --for`.")
    ],
    name: Cluster = None,
    file: ItsFile = None,
) -> None:
    """Revoke the client certificates of a person."""
    chosen = choose(name, file)
    number = _running(chosen).revoke(chosen, person)
    print(
        f"{chosen}: {person} is refused within seconds, and connections that stand are closed"
        + ("" if number else "; it was revoked before")
    )


def issue(name: str, person: str) -> Pair:
    """Issue a client's certificate to one person."""
    pair: Pair = _running(name).issue(name, person)
    return pair


def open_jupyter(
    what: Annotated[
        Page,
        typer.Argument(help="`dashboard` opens Dask's dashboard alone, without JupyterLab."),
    ] = Page.jupyter,
    name: Cluster = None,
    file: ItsFile = None,
    show: Annotated[bool, typer.Option("--print", help="Print the address instead.")] = False,
) -> None:
    """Open JupyterLab in a browser, or Dask's dashboard alone."""
    import webbrowser

    from perennial.jupyter import open_url_file

    chosen = choose(name, file)
    part = _running(chosen)
    found = part.dashboard(chosen) if what is Page.dashboard else part.jupyter(chosen)
    if found is None:
        raise PerennialError(
            f"{chosen} has no Jupyter; add `jupyter: {{}}` to its cluster file, or run"
            " `perennial open dashboard`"
        )
    url, kept, folder = found
    if not sys.stdout.isatty():  # what is printed is kept, as in the log of a CI
        print(url)
        typer.echo(f"its token is in {kept}", err=True)
        return
    token = kept.read_text(encoding="utf-8").strip()
    if show:
        print(f"{url}?token={token}")
        return
    page = open_url_file(url, token, folder)
    if not webbrowser.open(page.as_uri()):
        print(f"no browser here; open {url}?token={token}")


def enable(name: Cluster = None, file: ItsFile = None) -> None:
    """Start the cluster at boot, by a systemd unit."""
    chosen = choose(name, file)
    unit = _running(chosen).enable(chosen)
    print(f"{chosen}: {unit} starts it at boot and keeps its supervisord running")


def disable(name: Cluster = None, file: ItsFile = None) -> None:
    """Stop starting the cluster at boot."""
    # By its name alone: a cluster that is down may still be enabled.
    chosen = named(name, file) or choose(None)
    unit = _running(chosen).disable(chosen)
    print(f"{chosen}: {unit} is gone; the cluster will not come back after a reboot")
