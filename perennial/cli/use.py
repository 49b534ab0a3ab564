"""`connect`, `disconnect`, `env`: what makes a plain Client() reach a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.life import Name

if TYPE_CHECKING:
    from perennial.connect import Connection


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("connect")(connect_command)
    app.command("disconnect")(disconnect_command)
    app.command("env")(env_command)


def connect_command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME | FILE]",
            help="The cluster, or a bundle from a colleague; the only cluster needs no name.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a bundle for a colleague; connect nothing."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Take a bundle in place of another cluster of the same name; with --export, "
            "write over FILE.",
        ),
    ] = False,
) -> None:
    """Make a plain Client() in every new Python process reach a cluster."""
    from perennial import connect

    if export is not None:
        connection = connect.find(target)
        connect.export_bundle(connection, export, replace)
        print(f"{export}: whoever has this file can use {connection.cluster}; hand it over safely")
        _warn(_loopback(connection))
        _warn(connect.expiry_notices(connection))
        return
    if target is not None and _is_file(target):
        connection = connect.read_bundle(Path(target), replace)
        _warn(_loopback(connection))
    else:
        connection = connect.find(target)
    notices = connect.write(connection)
    print(
        f"Client() in a new Python process reaches {connection.cluster} at "
        f"{connection.scheduler_address}"
    )
    _warn(notices)


def disconnect_command(name: Name = None) -> None:
    """Give a plain Client() back to Dask's own LocalCluster."""
    from perennial import connect

    cluster = connect.remove(name)
    if cluster is None:
        print("not connected: Client() starts a LocalCluster")
    else:
        print(f"Client() in a new Python process no longer reaches {cluster}")
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        _warn([f"this shell still reaches {address}; `unset DASK_SCHEDULER_ADDRESS` ends that"])


def env_command(name: Name = None) -> None:
    """Print the connection as shell exports: `eval "$(perennial env)"`."""
    from perennial import connect

    connection = connect.find(name)
    print(connect.exports(connection), end="")
    _warn(connect.expiry_notices(connection))


def _is_file(target: str) -> bool:
    """Tell a bundle's file from a cluster's name, in which no dot or slash can stand."""
    from perennial import connect

    if "." in target or os.sep in target:
        return True
    return target not in connect.known() and Path(target).exists()


def _loopback(connection: Connection) -> list[str]:
    from perennial import connect

    notice = connect.loopback_notice(connection)
    return [] if notice is None else [notice]


def _warn(notices: Iterable[str]) -> None:
    for notice in notices:
        typer.echo(f"warning: {notice}", err=True)
