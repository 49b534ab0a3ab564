"""Checks that are the same on every platform: certificates, secrets, a plain Client()."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from perennial import connect, paths, tunnel
from perennial.connect import Connection, trial
from perennial.doctor import Finding
from perennial.isolated.packages import installed
from perennial.spec.words import plural

#: Certificates are mentioned when they expire within this time.
NOTICE = timedelta(days=30)
#: Whose versions must be the same wherever tasks are pickled or run.
SAME = ("python", "dask", "distributed", "dask-perennial")
#: Seconds for a client to reach the scheduler and ask a worker.
TIMEOUT = 20.0
#: Prints name and version of every installed package; run in either environment.
PACKAGES = (
    "import importlib.metadata as m, json, platform;"
    "found = {'python': platform.python_version()};"
    "[found.setdefault(d.metadata['Name'] or '?', d.version) for d in m.distributions()];"
    "print(json.dumps(found))"
)


def as_client(cluster: str, python: str | None, cut: bool) -> Iterator[Finding]:
    """Connect as a plain Client() does; not at all where the network is known to be blocked."""
    link = connect.find(cluster)
    if paths.tunnel(cluster).is_file():
        link = tunnel.through(link)
        level: Literal["ok", "error"] = "ok" if tunnel.is_connected(cluster) else "error"
        yield Finding("tunnel", level, tunnel.describe(cluster) or "none")
    elif tunnel.is_unreachable(link):
        text = f"{link.scheduler_address} has no meaning here"
        remedy = f"`perennial connect {cluster} --port-forward` reaches it"
        yield Finding("client", "warning", f"{text}; {remedy}")
        return
    yield plain_client(link)
    if not cut:
        yield from packages(link, python)


def same(packages: Mapping[str, str]) -> dict[str, str | None]:
    """Return the versions that must be the same everywhere."""
    found = {name.lower().replace("_", "-"): version for name, version in packages.items()}
    return {name: found.get(name) for name in SAME}


def plain_client(link: Connection) -> Finding:
    """Check where a plain Client() of this user leads."""
    name = link.cluster
    wrong = trial.problem(link)
    if wrong is None:
        return Finding("Client()", "ok", f"reaches {name}")
    current = connect.current()
    if current is None or current.cluster != name:
        where = f"reaches {current.cluster}" if current else "makes a LocalCluster"
        return Finding("Client()", "warning", f"{where}; `perennial connect {name}` changes that")
    if current != link:
        text = f"has another address than the cluster; run `perennial connect {name}` again"
        return Finding("Client()", "error", text)
    return Finding("Client()", "warning", f"in a new Python process {wrong}")


def certificates(
    expiry: Mapping[str, datetime], now: datetime, up: str, remedy: str = ""
) -> Finding:
    """Check how long the certificates are good, by this machine's clock.

    ``up`` deploys the cluster; ``remedy`` is what renews them, where that is another command.
    """
    remedy = remedy or up
    if not expiry:
        return Finding("certificates", "error", f"there are none; run {up}")
    name, first = min(expiry.items(), key=lambda item: item[1])
    if first <= now:
        text = f"{name} expired on {first:%Y-%m-%d} by this clock ({now:%Y-%m-%d %H:%M} UTC)"
        return Finding("certificates", "error", f"{text}; run {remedy} or set the clock")
    if first - now < NOTICE:
        text = f"{name} expires on {first:%Y-%m-%d}; run {remedy}"
        return Finding("certificates", "warning", text)
    return Finding("certificates", "ok", f"good until {first:%Y-%m-%d}")


def secrets(root: Path) -> Finding:
    """Check that nobody else can read keys and tokens."""
    files = [path for part in ("tls", "secrets") for path in (root / part).rglob("*")]
    wide = [str(path) for path in files if path.is_file() and path.stat().st_mode & 0o077]
    if wide:
        return Finding("secrets", "error", f"others can read {', '.join(wide)}; `chmod 600` them")
    return Finding("secrets", "ok", f"{len(files)} files, yours alone")


def packages(link: Connection, python: str | None) -> Iterator[Finding]:
    """Reach the cluster as a client does, and compare its packages with the workers'."""
    theirs = _ask_workers(link)
    groups = plural(len(theirs), "group")
    yield Finding("client", "ok", f"reached the scheduler, and a worker of {groups}")
    mine = packages_of(python)
    different = differences(mine, theirs)
    if different:
        shown = "; ".join(different[:20]) + ("; …" if len(different) > 20 else "")
        text = f"{shown}: install the same versions on both sides"
        yield Finding("packages", "warning", text)
    else:
        yield Finding("packages", "ok", f"{len(mine)} are the same for client and workers")


def differences(mine: Mapping[str, str], theirs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name each package whose version differs between the client and a worker."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for worker, versions in sorted(theirs.items()):
        for name in sorted(set(mine) | set(versions), key=str.lower):
            here, there = mine.get(name, "missing"), versions.get(name, "missing")
            if here != there:
                found.setdefault((name, here, there), []).append(worker)
    return [
        f"{name} is {here} here and {there} on "
        + (workers[0] if len(workers) == 1 else f"{len(workers)} workers")
        for (name, here, there), workers in found.items()
    ]


def _ask_workers(link: Connection) -> dict[str, dict[str, str]]:
    """Ask a worker of each group for its packages, in a process apart."""
    from perennial import isolated

    async def asked() -> dict[str, dict[str, str]]:
        async with isolated.scheduler(link.scheduler_address, link.tls, TIMEOUT) as scheduler:
            found = await scheduler.packages()
        return {
            str(worker): {str(name): str(version) for name, version in versions.items()}
            for worker, versions in found.items()
        }

    return asyncio.run(asked())


def packages_of(python: str | None) -> dict[str, str]:
    """Names and versions of the packages of an interpreter; of the one that runs this when None."""
    if python is None or Path(python) == Path(sys.executable):
        return installed()
    done = subprocess.run(
        [python, "-c", PACKAGES], capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer
