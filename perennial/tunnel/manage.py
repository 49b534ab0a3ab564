"""`connect --ssh` and `--port-forward`: a tunnel to a cluster that this machine has no route to.

A process of the user's own keeps ports of this machine's loopback address, and carries what
connects there to the scheduler and to Jupyter: through a bastion, or by what the platform has for
it. TLS and the login stay between the two ends: what is in between sees nothing and needs to know
nothing. A client needs the scheduler alone, for Dask hands it results through the scheduler.

The process outlives the command and the shell that started it, but no reboot of this machine;
`perennial connect` starts it again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from perennial import paths
from perennial.connect.connection import Connection
from perennial.errors import FleetError, PerennialError
from perennial.files import make_private, read_json, write_json
from perennial.lock import exclusive
from perennial.registry import PLATFORMS
from perennial.ssh.folder import leave
from perennial.supervision import single_instance
from perennial.tunnel import forwarding
from perennial.tunnel.bastion import WEB_PORTS, Bastion
from perennial.tunnel.forwarding import LOOPBACK, Endpoint, Forward, Transport

#: Seconds until the process must have connected, after the command has just done so itself.
_START = 30.0
#: Seconds in which a scheduler must accept a connection.
_ANSWER = 3.0
_LARGEST_LOG = 1_000_000
#: What carries through a bastion; the others are called as their platforms.
SSH = "ssh"


@dataclass(frozen=True, slots=True)
class Route:
    """How a tunnel reaches a cluster."""

    #: What carries: `SSH`, or a platform.
    carrier: str
    #: What it has to know, such as ``{"bastion": "me@bastion"}``.
    told: dict[str, str]

    def __str__(self) -> str:
        return str(_class(self.carrier).words(self.told))


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What is kept of a tunnel."""

    way: Route
    #: What leads where; the scheduler's first.
    forwards: tuple[Forward, ...]


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a tunnel keeps its things."""

    root: Path

    @property
    def tunnel(self) -> Path:
        return self.root / "tunnel.json"  # `perennial.paths.tunnel`

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def change(self) -> Path:
        return self.root / "change.lock"

    @property
    def log(self) -> Path:
        return self.root / "log"


def by_platform(connection: Connection) -> Route:
    """Say how the cluster's own platform carries connections to it."""
    found = {name: PLATFORMS[name].transport for name in PLATFORMS if PLATFORMS[name].transport}
    for name in found:
        if (told := _class(name).reaching(connection)) is not None:
            return Route(name, told)
    raise PerennialError(
        f"{connection.cluster}: --port-forward is for clusters on {', '.join(found)}, found the"
        f" address {connection.scheduler_address}; --ssh USER@BASTION connects to others"
    )


def through_bastion(bastion: str) -> Route:
    """Say that a bastion carries, as the user wrote it."""
    return Route(SSH, {"bastion": bastion})


def is_unreachable(connection: Connection) -> bool:
    """Whether nobody answers at an address to which a platform carries connections."""
    try:
        by_platform(connection)
    except PerennialError:
        return False
    parts = urlsplit(connection.scheduler_address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), _ANSWER).close()
    except OSError:
        return True
    return False


def open_tunnel(
    connection: Connection, way: Route | None, say: Callable[[str], None] = lambda _: None
) -> Connection:
    """Keep a tunnel to a cluster; twice is once."""
    files = _files(connection.cluster)
    current = _load(files)
    way = way or (current.way if current else None)
    if way is None:
        raise PerennialError(
            f"{connection.cluster}: no tunnel; name a bastion with --ssh, or add --port-forward"
        )
    carrier = _transport(way)
    endpoints = carrier.endpoints(connection)
    make_private(files.root)
    with exclusive(files.change, say):
        _check(carrier, endpoints, connection.cluster, say)
        current = _load(files)
        wanted = Tunnel(way, _forwards(endpoints, current.forwards if current else ()))
        if wanted != current or not is_connected(connection.cluster):
            _stop(files)
            wanted = Tunnel(way, _free(wanted.forwards))
            write_json(files.tunnel, asdict(wanted))
            _start(files, connection.cluster)
    return _rewritten(connection, wanted.forwards)


def forwarded(connection: Connection, say: Callable[[str], None] = lambda _: None) -> Connection:
    """Keep the tunnel that there is, of a bastion say, or one by the cluster's own platform."""
    has_tunnel = paths.tunnel(connection.cluster).is_file()
    return open_tunnel(connection, None if has_tunnel else by_platform(connection), say)


def close_tunnel(cluster: str) -> bool:
    """End a tunnel and forget it; says whether there was one."""
    files = _files(cluster)
    if not files.root.is_dir():
        return False
    with exclusive(files.change, lambda _: None):
        _stop(files)
        existed = files.tunnel.exists()
        for file in (files.tunnel, files.status, files.log):
            file.unlink(missing_ok=True)
    return existed


def through(connection: Connection) -> Connection:
    """Return how a cluster is reached through its tunnel, whether or not it is up."""
    current = _load(_files(connection.cluster))
    return _rewritten(connection, current.forwards if current else ())


def local(cluster: str, host: str, port: int) -> int | None:
    """Say which port of this machine leads to one of a cluster's; None for none."""
    current = _load(_files(cluster))
    found = {(each.host, each.port): each.local for each in (current.forwards if current else ())}
    return found.get((host, port))


def is_connected(cluster: str) -> bool:
    """Whether a tunnel's process runs and has its way to the cluster."""
    files = _files(cluster)
    pid, _ = single_instance.holder(files.lock)
    status = read_json(files.status, {})
    return bool(pid) and status.get("pid") == pid and status.get("fault") is None


def describe(cluster: str) -> str | None:
    """Say in one line how a tunnel is; None where there is none."""
    files = _files(cluster)
    tunnel = _load(files)
    if tunnel is None:
        return None
    ports = ", ".join(f"{each.local} → {each.host}:{each.port}" for each in tunnel.forwards)
    head = f"{tunnel.way} ({ports})"
    if not single_instance.holder(files.lock)[0]:
        return f"{head}: not running; `perennial connect {cluster}` starts it"
    fault = read_json(files.status, {}).get("fault")
    return f"{head}: connected" if fault is None else f"{head}: {fault}; trying again"


def _files(cluster: str) -> _Files:
    return _Files(paths.tunnel(cluster).parent)


def _load(files: _Files) -> Tunnel | None:
    try:
        value = read_json(files.tunnel)
        if value is None:
            return None
        forwards = tuple(Forward(**each) for each in value["forwards"])
        if "bastion" in value:  # written by a version that had bastions alone
            return Tunnel(through_bastion(str(value["bastion"])), forwards)
        way = Route(**value["way"])
        _class(way.carrier)
        return Tunnel(way, forwards)
    except (PerennialError, KeyError, TypeError):
        return None  # damaged: the next `perennial connect` with its option writes it anew


def _class(carrier: str) -> Any:
    """Load what carries; a platform's by its dotted name."""
    if carrier == SSH:
        return Bastion
    module, _, name = PLATFORMS[carrier].transport.rpartition(".")
    return getattr(import_module(module), name)


def _transport(way: Route) -> Transport:
    made: Transport = _class(way.carrier)(way.told)
    return made


def _check(
    carrier: Transport, endpoints: Sequence[Endpoint], cluster: str, say: Callable[[str], None]
) -> None:
    """Go the way once: what is wrong is said now, and not in a log."""
    first, *others = carrier.check(endpoints)
    host, port = endpoints[0]
    if first:
        raise FleetError(
            f"{cluster}: {carrier.name} cannot connect to the scheduler at {host}:{port} ({first});"
            f" check whether the cluster is up, and {carrier.remedy}"
        )
    for (host, port), fault in zip(endpoints[1:], others, strict=True):
        if fault:
            say(
                f"{carrier.name} cannot connect to {host}:{port} ({fault}); Client() does not need"
                " it"
            )


def _forwards(endpoints: Sequence[Endpoint], before: Sequence[Forward]) -> tuple[Forward, ...]:
    """Choose local ports: those used before, else the same numbers as there."""
    used = {(each.host, each.port): each.local for each in before}
    return tuple(Forward(used.get((host, port), port), host, port) for host, port in endpoints)


def _free(forwards: Sequence[Forward]) -> tuple[Forward, ...]:
    """Take another port where one is in use by somebody else, or twice."""
    chosen: list[Forward] = []
    for each in forwards:
        taken = {other.local for other in chosen}
        local = each.local
        while local in taken or not _is_free(local):
            with socket.create_server((LOOPBACK, 0)) as free:
                local = int(free.getsockname()[1])
        chosen.append(replace(each, local=local))
    return tuple(chosen)


def _is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:  # in use, or not for this user
        return False
    return True


def _start(files: _Files, cluster: str) -> None:
    """Start the process and wait until it has connected."""
    files.status.unlink(missing_ok=True)
    if files.log.exists() and files.log.stat().st_size > _LARGEST_LOG:
        files.log.unlink()
    command = [sys.executable, "-m", "perennial.tunnel", cluster]
    process = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", single_instance.__file__),
            *(str(files.lock), str(files.log), *command),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A folder that may vanish must not be held, and no `perennial` lie in it.
        cwd="/",
        start_new_session=True,
    )
    deadline = time.monotonic() + _START
    while not is_connected(cluster):
        fault = read_json(files.status, {}).get("fault")
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(files)
            raise FleetError(
                f"{cluster}: the tunnel did not start ({fault or 'no output'}); its log is "
                f"{files.log}"
            )
        time.sleep(0.05)


def _stop(files: _Files) -> None:
    """End the process, if it runs."""
    for number, timeout in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        pid, _ = single_instance.holder(files.lock)
        if not pid:
            return
        single_instance.signal_holder(files.lock, number)
        deadline = time.monotonic() + timeout
        while single_instance.holder(files.lock)[0] == pid and time.monotonic() < deadline:
            time.sleep(0.02)


def _rewritten(connection: Connection, forwards: Sequence[Forward]) -> Connection:
    """Write a connection's addresses as they are on this machine."""
    local = {(each.host, each.port): each for each in forwards}

    def here(link: str | None) -> str | None:
        parts = urlsplit(link or "")
        port = parts.port or WEB_PORTS.get(parts.scheme)
        forward = local.get((parts.hostname or "", port or 0))
        if link is None or forward is None:
            return link
        return urlunsplit(parts._replace(netloc=f"{LOOPBACK}:{forward.local}"))

    return replace(
        connection,
        scheduler_address=here(connection.scheduler_address) or connection.scheduler_address,
        jupyter_url=here(connection.jupyter_url),
        dashboard_link=here(connection.dashboard_link),
    )


def run(cluster: str) -> int:
    """Run the process that keeps a tunnel."""
    files = _files(cluster)
    tunnel = _load(files)
    if tunnel is None:
        print(f"{cluster}: no tunnel; `perennial connect {cluster}` with --ssh makes one")
        return 1
    leave()  # the command that has started this process ends before it
    said: list[Any] = []

    def tell(fault: str | None) -> None:
        write_json(files.status, {"pid": os.getpid(), "fault": fault, "since": int(time.time())})
        if said[-1:] != [fault]:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {fault or 'connected'}", flush=True)
        said[:] = [fault]

    return forwarding.main(_transport(tunnel.way), tunnel.forwards, tell)
