"""The services on this machine, and their state."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

from perennial.contracts import ServiceStatus
from perennial.platforms.local.deploy import Deployment
from perennial.supervision.plan import staying
from perennial.supervision.single_instance import holder
from perennial.supervision.supervisor import Process
from perennial.supervision.waiting import does_not_stay_up

#: State of a service that outlived its supervisord.
ORPHAN = "ORPHAN"
MISSING = "MISSING"
#: Starts after which a service that starts again is said not to stay up.
LOOPS = 2


def rows(deployment: Deployment, interval: float = 0.2) -> list[ServiceStatus]:
    """Look at every service."""
    cluster = deployment.cluster
    supervised = cluster.supervisor.processes() if cluster.supervisor.pid() else {}
    # Without members that a fleet has stopped.
    there = staying(supervised, cluster.units(), deployment.programs)
    names = list(dict.fromkeys([*deployment.programs, *there]))
    pids = {name: _pid(name, supervised, deployment) for name in names}
    trees = {name: _tree(pid) for name, pid in pids.items()}
    for processes in trees.values():
        _cpu(processes)
    time.sleep(interval)
    return [_row(name, pids[name], supervised.get(name), trees[name], deployment) for name in names]


def _pid(name: str, supervised: dict[str, Process], deployment: Deployment) -> int:
    # An adopted service is not supervisord's child: its lock knows better.
    pid, _ = holder(deployment.paths.run / f"{name}.lock")
    return pid or (supervised[name].pid if name in supervised else 0)


def _row(
    name: str,
    pid: int,
    process: Process | None,
    tree: list[psutil.Process],
    deployment: Deployment,
) -> ServiceStatus:
    _, starts = holder(deployment.paths.run / f"{name}.lock")
    state = process.state if process else (ORPHAN if pid else MISSING)
    # Between two tries of a crash loop it is STARTING: then its starts tell.
    fails = process is not None and (
        process.unsteady or (process.state == "STARTING" and starts > LOOPS)
    )
    return ServiceStatus(
        service=name,
        machine=None,
        state=state,
        pid=pid,
        uptime=max(0.0, time.time() - _started(tree)) if tree else 0.0,
        restarts=max(0, starts - 1),
        memory=_memory(tree),
        cpu=_cpu(tree),
        note=does_not_stay_up(name, deployment.paths.logs) if fails else "",
    )


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid) if pid else None
        return [process, *process.children(recursive=True)] if process else []
    except psutil.Error:
        return []


def _started(tree: list[psutil.Process]) -> float:
    try:
        return tree[0].create_time()
    except psutil.Error:
        return time.time()


def _memory(tree: Iterable[psutil.Process]) -> int:
    total = 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def _cpu(tree: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in tree:
        try:
            total += process.cpu_percent() / 100.0
        except psutil.Error:
            continue
    return total
