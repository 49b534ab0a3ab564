"""`connect`, `disconnect`, `env`: what makes a plain Client() reach a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial import paths
from perennial.cli.attach import attach, detach
from perennial.cli.life import Cluster, ItsFile, named
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.certificates import Pair
    from perennial.connect import Connection


#: What a script must know that gave Client() the arguments of a LocalCluster.
OWN = "  a cluster of a script's own is Client(LocalCluster(n_workers=2)), not Client(n_workers=2)"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("connect")(connect_command)
    app.command("disconnect")(disconnect_command)
    app.command("env")(env_command)


def connect_command(  # noqa: PLR0913, PLR0917 - a parameter is an option
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME | FILE]",
            help="A cluster, or a connection bundle, or - to read one. Default: the only cluster.",
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="[ORG/PROJECT/]STACK",
            help="Remember a cluster that `pulumi up` deploys, from the outputs of its stack.",
        ),
    ] = None,
    cwd: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --stack: the program's folder. Default: this one."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            "-c",
            metavar="NAME",
            help="With --stack: the cluster, where the stack has several.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a connection bundle instead of connecting."),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="PERSON",
            help="With --export: issue a client certificate for this person; see `revoke`.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Accept a bundle that changes the address or authority of a known cluster; with "
            "--export, overwrite FILE.",
        ),
    ] = False,
    unencrypted: Annotated[
        bool, typer.Option("--unencrypted", help="Accept a bundle of a cluster without TLS.")
    ] = False,
    ssh: Annotated[
        str | None,
        typer.Option(
            metavar="USER@BASTION",
            help="Connect through this machine, by an SSH tunnel in the background.",
        ),
    ] = None,
    forward: Annotated[
        bool,
        typer.Option(
            "--port-forward",
            help="Connect through the platform: the Kubernetes API server, or SSM on AWS.",
        ),
    ] = False,
) -> None:
    """Make Client() without arguments connect to a cluster."""
    from perennial import connect, placement

    if stack is None and (cwd or name) is not None:
        raise PerennialError("--cwd and --cluster need --stack; a cluster is named without one")
    if stack is not None and (target or export or person) is not None:
        raise PerennialError("--stack takes no NAME, FILE or --export; -c NAME chooses a cluster")
    _require_one_way(ssh, forward, export)
    if export is not None:
        _export(connect.find(target), export, replace, person)
        return
    if person is not None:
        raise PerennialError("--for needs --export FILE, where the certificate goes")
    if stack is not None:
        connection = attach(stack, cwd or Path(), name, replace)
        bundle = False
    elif target is not None and _is_file(target):
        connection = connect.read_bundle(Path(target), replace, unencrypted, _agree)
        bundle = True
    else:
        connection = connect.find(target)
        bundle = False
    way = ""
    if ssh is not None or forward or _tunnelled(connection.cluster):
        connection, way = _tunnel(connection, ssh, forward)
    elif bundle:
        _warn(_loopback(connection))
    else:
        placement.require_reach(connection)
    notices = connect.write(connection)
    from perennial.connect import trial

    problem = trial.problem(connection)
    if problem is not None and not way:
        problem += _hint(connection)
    reaches = f"reaches {connection.cluster} at {connection.scheduler_address}{way}"
    print(f"Client() in a new Python process {problem or reaches}")
    print(OWN)
    _warn(notices)


def _require_one_way(ssh: str | None, forward: bool, export: Path | None) -> None:
    """Refuse options that exclude each other."""
    option = "--ssh" if ssh is not None else "--port-forward"
    if ssh is not None and forward:
        raise PerennialError("--ssh and --port-forward: choose one way to the cluster")
    if export is not None and (ssh is not None or forward):
        raise PerennialError(
            f"--export and {option}: a bundle holds no tunnel; whoever reads it adds {option}"
        )


def _export(connection: Connection, file: Path, replace: bool, person: str | None) -> None:
    """Write a connection bundle."""
    from perennial import connect

    connect.export_bundle(connection, file, replace, _issuing(connection.cluster, person))
    print(f"{file}: this file gives access to {connection.cluster}; transfer it securely")
    if connection.tls is None:
        _warn([f"{connection.cluster} has no TLS; whoever reads {file} adds --unencrypted"])
    _warn(_loopback(connection))
    _warn(connect.expiry_notices(connection))


def disconnect_command(name: Cluster = None, file: ItsFile = None) -> None:
    """Undo `connect`; also forget a cluster of `connect --stack`."""
    from perennial import connect

    name = named(name, file)
    if name is not None:
        ended, current = _end_tunnels(name), connect.current()
        if (current is None or current.cluster != name) and (detach(name) or ended):
            return
    cluster = connect.remove(name)
    if name is None:
        _end_tunnels(None)
    detach(cluster)
    if cluster is None:
        print("not connected: Client() starts a LocalCluster")
    else:
        print(f"Client() in a new Python process no longer reaches {cluster}")
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        _warn([f"this shell still reaches {address}; `unset DASK_SCHEDULER_ADDRESS` ends that"])


def env_command(name: Cluster = None, file: ItsFile = None) -> None:
    """Print the connection as shell exports.

    Use it as `eval "$(perennial env)"`.
    """
    from perennial import connect, placement

    connection = connect.find(named(name, file))
    placement.require_reach(connection)
    if _tunnelled(connection.cluster):
        from perennial import tunnel

        connection = tunnel.through(connection)
        if not tunnel.is_connected(connection.cluster):
            _warn([tunnel.describe(connection.cluster) or ""])
    print(connect.exports(connection), end="")
    _warn(connect.expiry_notices(connection))


def _tunnelled(cluster: str) -> bool:
    """Whether a cluster is reached through a tunnel; loads nothing of SSH."""
    return paths.tunnel(cluster).is_file()


def _tunnel(connection: Connection, ssh: str | None, forward: bool) -> tuple[Connection, str]:
    """Keep the tunnel; how the cluster is reached through it, and words that say so."""
    from perennial import tunnel
    from perennial.cli.output import Progress

    notices: list[str] = []
    way = tunnel.by_platform(connection) if forward else None
    if ssh is not None:
        way = tunnel.through_bastion(ssh)
    with Progress(connection.cluster) as progress:
        progress(f"connecting: {way or 'the tunnel'}")
        connection = tunnel.open_tunnel(connection, way, notices.append)
    _warn(notices)
    return connection, f", {tunnel.describe(connection.cluster)}"


def _hint(connection: Connection) -> str:
    """Name what reaches a cluster whose address is not reachable from here; empty for any other."""
    from perennial import tunnel

    unreachable = tunnel.is_unreachable(connection)
    return f"; `perennial connect {connection.cluster} --port-forward` does" * unreachable


def _end_tunnels(name: str | None) -> bool:
    """End the tunnel to a cluster, or all; whether there was one."""
    if not (clusters := [each for each in paths.tunnels() if name in (None, each)]):
        return False
    from perennial import tunnel

    for cluster in clusters:
        tunnel.close_tunnel(cluster)
        print(f"the tunnel to {cluster} is closed")
    return True


def _is_file(target: str) -> bool:
    """Whether it is a bundle's file: no dot or slash can stand in a cluster's name."""
    from perennial import connect

    if target == "-" or "." in target or os.sep in target:
        return True
    return target not in connect.known() and Path(target).exists()


def _issuing(cluster: str, person: str | None) -> Callable[[], Pair] | None:
    """Say how a person's certificate is issued; None where the connection's own is handed out."""
    if person is None:
        return None
    if cluster not in paths.known_clusters():
        raise PerennialError(
            f"{cluster}: its authority is where it was started; run `perennial connect --export"
            " FILE --for NAME` there"
        )
    from perennial.cli.operate import issue

    return lambda: issue(cluster, person)


def _agree(change: str) -> None:
    """Ask whether a bundle may change what is known of a cluster."""
    from perennial.cli.output import confirm

    confirm(f"{change}. Take the bundle's?", "--replace")


def _loopback(connection: Connection) -> list[str]:
    from perennial import connect

    notice = connect.loopback_notice(connection)
    return [] if notice is None else [notice]


def _warn(notices: Iterable[str]) -> None:
    for notice in notices:
        typer.echo(f"warning: {notice}", err=True)
