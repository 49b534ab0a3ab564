"""`status`, `list`, `logs`, `restart`, `scale`, `rotate`, `open`, `enable`, `disable`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.life import Name, choose
from perennial.cli.output import Progress, confirm
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perennial.local.deploy import Deployment

Json = Annotated[bool, typer.Option("--json", help="For a script.")]
Cluster = Annotated[str | None, typer.Option("--cluster", "-c", help="The cluster.")]
Force = Annotated[bool, typer.Option("--force", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("list")(list_clusters)
    app.command()(status)
    app.command()(logs)
    app.command()(restart)
    app.command()(scale)
    app.command()(rotate)
    app.command("open")(open_jupyter)
    app.command()(enable)
    app.command()(disable)


def _find(name: str | None) -> Deployment:
    from perennial.local.deploy import find

    return find(choose(name), lambda _text: None)


def list_clusters(as_json: Json = False) -> None:
    """List this user's clusters on this machine."""
    from perennial.local import deploy
    from perennial.paths import known_clusters

    found = []
    for name in known_clusters():
        deployment = deploy.find(name, lambda _text: None)
        counts = deployment.cluster.dashboard.counts()
        found.append(
            {
                "name": name,
                "platform": deployment.spec.platform,
                "state": "up" if counts else "down",
                "workers": counts.workers if counts else 0,
                "scheduler": deploy.connection(deployment.spec, deployment.paths).scheduler_address,
                "file": deployment.state.file,
            }
        )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print("no clusters; `perennial init` writes a cluster file, `perennial up` starts it")
    for row in found:
        print(
            f"{row['name']:20} {row['platform']:8} {row['state']:6} {row['workers']:>5} workers  "
            f"{row['scheduler']}  {row['file'] or ''}"
        )


def status(
    name: Name = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it until Ctrl-C.")] = False,
) -> None:
    """Show the services of a cluster and the scheduler's own numbers."""
    from perennial.local.status import report

    deployment = _find(name)
    if as_json:
        print(json.dumps(report(deployment), indent=2))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    if not watch:
        console.print(_table(report(deployment)))
        return
    from rich.live import Live

    with Live(_table(report(deployment)), console=console, auto_refresh=False) as live:
        while True:
            live.update(_table(report(_find(deployment.spec.name))), refresh=True)
            time.sleep(1.0)


def _table(report: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "state", "pid", "uptime", "restarts", "memory", "cpu"):
        right = column not in ("service", "state")
        table.add_column(column, justify="right" if right else "left")
    for row in report["services"]:
        good = row["state"] in ("RUNNING", "STARTING")
        table.add_row(
            row["service"],
            row["state"] if good else f"[red]{row['state']}[/red]",
            str(row["pid"] or "-"),
            _uptime(row["uptime"]),
            str(row["restarts"]),
            f"{row['memory'] / 2**20:.0f} MiB",
            f"{100 * row['cpu']:.0f} %",
        )
    numbers = report["scheduler"]
    last = (
        f"{numbers['workers']} workers, {numbers['threads']} threads, {numbers['clients']} clients;"
        f" tasks: {numbers['processing']} running, {numbers['waiting']} waiting,"
        f" {numbers['unrunnable']} that no worker can run, {numbers['erred']} failed;"
        f" {numbers['memory']} results, {numbers['nbytes'] / 2**20:.0f} MiB"
        if numbers
        else "the scheduler does not answer"
    )
    if not report["supervisord"]:
        last += "\nsupervisord does not run; `perennial up` starts it and adopts what still runs"
    return Group(table, f"{report['name']}: {last}")


def _uptime(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock


def logs(
    service: Annotated[str | None, typer.Argument(help="A service or group; all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many old lines.", min=0)] = 50,
    name: Cluster = None,
) -> None:
    """Print the log of a service, or of all."""
    from perennial.local import logs as reading
    from perennial.local.operate import members

    deployment = _find(name)
    folder = deployment.paths.logs
    if service is None:
        paths = sorted(folder.glob("*.log"))
    elif (folder / f"{service}.log").is_file():  # also supervisord, and who has left
        paths = [folder / f"{service}.log"]
    else:
        paths = [folder / f"{member}.log" for member in members(deployment, service)]

    def show(path: Path, line: str) -> None:
        print(f"{path.stem}: {line}" if len(paths) > 1 else line, flush=follow)

    if follow:
        for path, line in reading.follow(paths, lines):
            show(path, line)
    for path in paths:
        for line in reading.tail(path, lines):
            show(path, line)


def restart(
    service: Annotated[str, typer.Argument(help="A service, a member or a group.")],
    name: Cluster = None,
    force: Force = False,
) -> None:
    """Restart a service, or a group's members one after another, each drained."""
    from perennial.local import deploy, operate
    from perennial.local.lock import exclusive

    deployment = _find(name)
    if service == "scheduler" and not force:
        counts = deployment.cluster.dashboard.counts()
        if counts and (counts.processing or counts.memory):
            confirm(
                f"{counts.processing} running tasks and {counts.memory} results are lost with the"
                " scheduler. Restart it?",
                "--force",
            )
    label = deployment.spec.name
    with Progress(label) as say, exclusive(deployment.paths.lock, say):
        number = operate.restart(deploy.find(label, say), service)
    print(f"{label}: {service} restarted" + (f", {number} members" if number != 1 else ""))


def scale(
    sizes: Annotated[list[str], typer.Argument(metavar="GROUP=N...", help="New sizes.")],
    name: Cluster = None,
) -> None:
    """Give groups another size; whoever leaves is drained first."""
    from perennial.local import deploy, operate
    from perennial.local.lock import exclusive

    wanted = dict(_size(text) for text in sizes)
    deployment = _find(name)
    label = deployment.spec.name
    with Progress(label) as say, exclusive(deployment.paths.lock, say):
        changed = operate.scale(deploy.find(label, say), wanted)
    for group in wanted:
        before, now = deployment.state.sizes[group], changed.state.sizes[group]
        print(f"{label}: {group} " + (f"{before} → {now}" if before != now else f"stays {now}"))


def _size(text: str) -> tuple[str, int]:
    group, equals, number = text.partition("=")
    if not equals or not number.isdecimal() or int(number) > 100_000:
        raise PerennialError(f"{text!r}: write GROUP=N, such as cpu=4")
    return group, int(number)


def rotate(name: Name = None) -> None:
    """Renew the cluster's certificates; nothing restarts, no work is lost."""
    from perennial import authority
    from perennial.local import deploy, operate
    from perennial.local.lock import exclusive

    deployment = _find(name)
    label = deployment.spec.name
    with Progress(label) as say, exclusive(deployment.paths.lock, say):
        operate.rotate(deploy.find(label, say))
    first = min(authority.expiry(deployment.paths.tls).values())
    print(f"{label}: certificates renewed, the first expires on {first:%Y-%m-%d}")
    print("  bundles that were handed out stay valid until their own date")


def open_jupyter(
    name: Name = None,
    show: Annotated[bool, typer.Option("--print", help="Only print the address.")] = False,
) -> None:
    """Open JupyterLab in a browser, logged in."""
    import webbrowser

    from perennial.jupyter import open_url_file, state_directory
    from perennial.local import deploy
    from perennial.local.layout import site

    deployment = _find(name)
    spec, paths = deployment.spec, deployment.paths
    url = deploy.jupyter_url(spec)
    if url is None:
        raise PerennialError(f"{spec.name} has no Jupyter; add `jupyter: {{}}` to its cluster file")
    token = deploy.token_file(spec, paths).read_text().strip()
    if show or not sys.stdout.isatty():
        print(f"{url}?token={token}")
        return
    page = open_url_file(url, token, Path(state_directory(site(spec, paths))))
    if not webbrowser.open(page.as_uri()):
        print(f"no browser here; open {url}?token={token}")


def enable(name: Name = None) -> None:
    """Bring the cluster back after a reboot, by one systemd unit."""
    from perennial.local import boot
    from perennial.local.lock import exclusive

    deployment = _find(name)
    label = deployment.spec.name
    with Progress(label) as say, exclusive(deployment.paths.lock, say):
        unit = boot.enable(deployment, say)
    print(f"{label}: {unit} starts it at boot and keeps its supervisord running")


def disable(name: Name = None) -> None:
    """Undo `enable`; the cluster runs on."""
    from perennial.local import boot

    # By its name alone: a cluster that is down may still be enabled.
    label = name or choose(name)
    unit = boot.disable(label)
    print(f"{label}: {unit} is gone; the cluster will not come back after a reboot")
