"""Check for problems: each check returns what it found and what to do about it."""

from __future__ import annotations

import http.client
import resource
import shutil
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

from perennial import authority
from perennial.doctor import FREE, Finding, checks, guarded
from perennial.fetching import answer
from perennial.pages import parsed
from perennial.platforms.local import logout as logging_out
from perennial.platforms.local import status
from perennial.platforms.local.deploy import Deployment, connection
from perennial.platforms.local.layout import site
from perennial.platforms.local.ports import faults_of_ports
from perennial.state import command
from perennial.supervision import boot, listening, processes

#: Open files below which a scheduler of some hundred workers stops accepting connections.
OPEN_FILES = 8192
#: Share of the allowed processes and threads above which a task or a new member finds none left.
ALMOST = 0.9
#: Seconds that the clock may stand before a file's time.
LEEWAY = 60.0
#: Seconds in which the scaler must answer.
TIMEOUT = 20.0

GOOD = ("RUNNING", "STARTING")


def examine(deployment: Deployment, python: str | None) -> Iterator[Finding]:
    """Run every check."""
    yield services(deployment)
    yield ports(deployment)
    if deployment.spec.scaler is not None and deployment.spec.scaled:
        yield scaler(deployment.spec.scaler.port, deployment.paths.run / "scaler.lock")
    link = connection(deployment.spec, deployment.paths)
    yield checks.plain_client(link)
    yield clock(deployment.paths.root, time.time())
    yield limits()
    yield threads(processes.limit(), processes.used())
    if boot.has_systemd():
        yield logout(deployment)
    yield from disk(deployment)
    if deployment.spec.security.tls:
        expiry = authority.expiry(deployment.paths.tls)
        yield checks.certificates(expiry, datetime.now(UTC), _up(deployment), "`perennial rotate`")
        yield checks.secrets(deployment.paths.root)
        yield host_names(authority.host_names())
    yield from guarded("client", lambda: checks.packages(link, python))


def _up(deployment: Deployment) -> str:
    return command("up", deployment.spec.name)


def services(deployment: Deployment) -> Finding:
    """Check whether everything runs that should."""
    rows = status.rows(deployment, interval=0.0)
    wanted = deployment.programs  # without members that the scaler removes
    bad = [f"{r.service} is {r.state}" for r in rows if r.state not in GOOD and r.service in wanted]
    loops = [row.note for row in rows if row.note and row.service in wanted]
    if loops:
        return Finding("services", "error", "; ".join(loops))
    if bad:
        text = f"{', '.join(bad)}; {_up(deployment)} starts them, `perennial logs` says why"
        return Finding("services", "error", text)
    often = [f"{row.service} {row.restarts} times" for row in rows if row.restarts > 3]
    if often:
        return Finding("services", "warning", f"came back by themselves: {', '.join(often)}")
    if not deployment.cluster.dashboard.healthy():
        text = "the scheduler's /health does not answer; see `perennial logs scheduler`"
        return Finding("services", "error", text)
    steady = {row.service for row in rows if row.state == "RUNNING"}
    expected = {w for p in wanted.values() if p.name in steady for w in p.registers}
    if missing := sorted(expected - deployment.cluster.dashboard.worker_names()):
        text = f"{', '.join(missing[:5])}: not registered with the scheduler"
        return Finding("services", "error", f"{text}; see `perennial logs scheduler`")
    return Finding("services", "ok", f"{len(rows)} run")


def ports(deployment: Deployment) -> Finding:
    """Check whether another process has taken a port of the cluster."""
    mine = frozenset(deployment.cluster.pids().values())
    taken = [f"{fault.path}: {fault.found}" for fault in faults_of_ports(deployment.spec, mine)]
    if taken:
        return Finding("ports", "error", f"{'; '.join(taken)}; end it or change the cluster file")
    listed = ", ".join(str(port) for port in deployment.spec.ports().values())
    return Finding("ports", "ok", f"{listed} are the cluster's")


def scaler(port: int, lock: Path) -> Finding:
    """Check whether the scaler is healthy; what another process answers on its port is ignored."""
    connection = http.client.HTTPConnection(listening.LOOPBACK, port, timeout=TIMEOUT)
    found = answer(connection, "/health") if listening.is_of(lock, port) else None
    if found is None:
        text = f"it does not answer on its port {port}; see `perennial logs scaler`"
        return Finding("scaler", "error", text)
    status, said = found[0], parsed(found[1])
    if status == http.client.OK:
        return Finding("scaler", "ok", f"at work, mode {said.get('mode', 'unknown')}")
    reasons = said.get("reasons")
    why = "; ".join(map(str, reasons)) if isinstance(reasons, list) else ""
    text = f"{why or 'it does not say why'}; see `perennial explain` and `perennial logs scaler`"
    return Finding("scaler", "error", text)


def clock(root: Path, now: float) -> Finding:
    """Check that the clock does not stand before what it has seen already."""
    newest = max((path.stat().st_mtime for path in root.rglob("*.pem")), default=now)
    if newest > now + LEEWAY:
        text = f"{newest - now:.0f} s behind the cluster's own certificates; set the clock"
        return Finding("clock", "error", text)
    return Finding("clock", "ok", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")


def limits() -> Finding:
    """Check the limit of open files, which the services inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        text = (
            f"at most {hard}; raise `nofile` in /etc/security/limits.conf to {OPEN_FILES} or more"
        )
        return Finding("open files", "warning", text)
    return Finding("open files", "ok", f"up to {hard if hard > 0 else 'any number'}")


def threads(most: int | None, used: int) -> Finding:
    """Check how many processes and threads this user may still start."""
    if most is not None and used > ALMOST * most:
        text = (
            f"this user has {used} of at most {most} (`ulimit -Hu`); end some, or raise `nproc` in"
            " /etc/security/limits.conf and log in anew"
        )
        return Finding("processes", "warning", text)
    return Finding("processes", "ok", f"{used} of {'any number' if most is None else most}")


def logout(deployment: Deployment) -> Finding:
    """Check that the cluster does not end with the login that started it."""
    supervisord = deployment.cluster.supervisor.pid()
    pids = {**({"supervisord": supervisord} if supervisord else {}), **deployment.cluster.pids()}
    said = logging_out.found(pids)
    return Finding("logout", "warning" if said else "ok", said or "the cluster outlives it")


def disk(deployment: Deployment) -> Iterator[Finding]:
    """Check free space where workers spill and where logs and state stand."""
    folders = {Path(site(deployment.spec, deployment.paths).scratch), deployment.paths.root}
    for folder in sorted(folders):
        if not folder.exists():
            text = f"{folder} is missing; {_up(deployment)} makes it"
            yield Finding("disk", "error", text)
            continue
        free = shutil.disk_usage(folder).free
        if free < FREE:
            text = f"{free / 2**20:.0f} MiB free in {folder}; make room, or set temporary_directory"
            yield Finding("disk", "warning", text)
        else:
            yield Finding("disk", "ok", f"{free / 2**30:.0f} GiB free in {folder}")


def host_names(names: Collection[str]) -> Finding:
    """Check that the certificates hold every name of this machine."""
    from perennial.certificates import is_name

    if wrong := sorted(name for name in names if not is_name(name)):
        text = (
            f"{', '.join(map(repr, wrong))}: no name that a certificate can hold, and left out of"
            " the cluster's; correct /etc/hosts or the machine's own name"
        )
        return Finding("host names", "warning", text)
    return Finding("host names", "ok", ", ".join(sorted(names)))
