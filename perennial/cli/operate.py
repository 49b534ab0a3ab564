"""`logs`, `restart`, `scale`, `rotate`, `open`, `enable`, `disable`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.life import Cluster, ItsFile, choose, named, platform_of
from perennial.cli.output import alone, confirm, say_abandoned, show_plan
from perennial.cli.platform import runtime
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.certificates import Pair
    from perennial.contracts import Runtime


class Opened(StrEnum):
    """What `open` opens."""

    jupyter = "jupyter"
    dashboard = "dashboard"


Force = Annotated[bool, typer.Option("--force", help="Skip the confirmation prompt.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(logs)
    app.command()(restart)
    app.command()(scale)
    app.command()(rotate)
    app.command()(revoke)
    app.command("open")(open_jupyter)
    app.command()(enable)
    app.command()(disable)


def _running(name: str, verb: str) -> Runtime:
    """Return a cluster, if its platform can do this to it."""
    return runtime(platform_of(name), name, verb)


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
    for title, line in _running(chosen, "logs").logs(service, lines, follow):
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
    running, abandoned = _running(chosen, "restart"), dict[str, str]()
    if not force:
        _ask_before_loss(running, service)
    with alone(chosen) as say:
        number = running.restart(service, say, abandoned.__setitem__)
    say_abandoned(chosen, abandoned)
    print(f"{chosen}: {service} restarted" + (f", {number} members" if number != 1 else ""))


def _ask_before_loss(running: Runtime, service: str) -> None:
    """Ask before a restart ends work, results or actors."""
    if service == "scheduler":
        counts = running.counts()
        if counts and (counts.processing or counts.memory):
            confirm(
                f"{counts.processing} running tasks and {counts.memory} results are lost with the"
                " scheduler. Restart it?",
                "--force",
            )
        return
    held = [each for each in running.holders() if each.is_meant(service)]
    if held:
        holders = ", ".join(f"{each.name} ({each.actors})" for each in held)
        confirm(
            f"actors are lost with their member, as nobody can take them: {holders}."
            f" Restart {service}?",
            "--force",
        )


def scale(
    sizes: Annotated[list[str], typer.Argument(metavar="GROUP=N...", help="New sizes.")],
    last: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="DURATION",
            help="Duration of the new size, such as 2h. Default: until --auto.",
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
    running, abandoned = _running(chosen, "scale"), dict[str, str]()
    with alone(chosen) as say:
        sizes_now = {group: size or 0 for group, size in fixed.items()}
        done = running.scale(sizes_now, force, say, abandoned.__setitem__)
    say_abandoned(chosen, abandoned)
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
        raise PerennialError("--for and --auto: choose one; autoscaling has no time limit")
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
    """Renew certificates without restarts (platform local)."""
    chosen = choose(name, file)
    if force and not ca:
        raise PerennialError("--force needs --ca; without --ca there is no prompt")
    if ca:
        _rotate_authority(chosen, force)
        return
    running = _running(chosen, "rotate")
    with alone(chosen) as say:
        first = running.rotate(say)
    print(f"{chosen}: certificates renewed, the first expires on {first:%Y-%m-%d}")
    print("  bundles handed out earlier stay valid until they expire")


def _rotate_authority(name: str, force: bool) -> None:
    running = _running(name, "rotate_authority")
    if not force:
        show_plan(name, running.rotation())
        confirm("All bundles become invalid, and these services restart. Continue?", "--force")
    with alone(name) as say:
        running.rotate_authority(say)
    print(f"{name}: a new authority, and new keys for every service")
    print(
        "  earlier bundles are invalid; `perennial connect --export FILE --for NAME` writes others"
    )


def revoke(
    person: Annotated[
        str, typer.Argument(metavar="PERSON", help="The name given to `connect --for`.")
    ],
    name: Cluster = None,
    file: ItsFile = None,
) -> None:
    """Revoke a person's client certificates (platform local)."""
    chosen = choose(name, file)
    running = _running(chosen, "revoke")
    with alone(chosen):
        number = running.revoke(person)
    print(
        f"{chosen}: {person} is refused within seconds, and connections that stand are closed"
        + ("" if number else "; it was revoked before")
    )


def issue(name: str, person: str) -> Pair:
    """Issue a client's certificate to one person."""
    running = _running(name, "issue")
    with alone(name):
        return running.issue(person)


def open_jupyter(
    what: Annotated[
        Opened,
        typer.Argument(help="`dashboard` opens Dask's dashboard alone, without JupyterLab."),
    ] = Opened.jupyter,
    name: Cluster = None,
    file: ItsFile = None,
    show: Annotated[bool, typer.Option("--print", help="Print the address instead.")] = False,
) -> None:
    """Open JupyterLab in a browser, or Dask's dashboard alone."""
    import webbrowser

    from perennial.jupyter import open_url_file

    chosen = choose(name, file)
    running = _running(chosen, what.value)
    found = running.dashboard() if what is Opened.dashboard else running.jupyter()
    if found is None:
        raise PerennialError(
            f"{chosen} has no Jupyter; add `jupyter: {{}}` to its cluster file, or run"
            " `perennial open dashboard`"
        )
    url, kept = found.url, found.token
    if not sys.stdout.isatty():  # output may be kept, as in a CI's log
        print(url)
        typer.echo(f"its token is in {kept}", err=True)
        return
    token = kept.read_text(encoding="utf-8").strip()
    if show:
        print(f"{url}?token={token}")
        return
    page = open_url_file(url, token, found.folder)
    if not webbrowser.open(page.as_uri()):
        print(f"no browser here; open {url}?token={token}")


def enable(name: Cluster = None, file: ItsFile = None) -> None:
    """Start the cluster at boot, by systemd (platform local)."""
    chosen = choose(name, file)
    running = _running(chosen, "enable")
    with alone(chosen) as say:
        unit = running.enable(say)
    print(f"{chosen}: {unit} starts it at boot and keeps its supervisord running")


def disable(name: Cluster = None, file: ItsFile = None) -> None:
    """Stop starting the cluster at boot (platform local)."""
    # By its name alone: a cluster that is down may still be enabled.
    chosen = named(name, file) or choose(None)
    unit = _running(chosen, "disable").disable()
    print(f"{chosen}: {unit} is gone; the cluster will not come back after a reboot")
