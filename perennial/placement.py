"""Which machine a cluster runs on, where several machines share one home folder."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from perennial.connect import Connection, loopback_host
from perennial.errors import PerennialError
from perennial.files import read_json, write_json
from perennial.paths import ClusterPaths, cluster_state, tunnel


@dataclass(frozen=True, slots=True)
class Placement:
    """A machine, or a container on it: where process ids mean the same processes."""

    #: Name of the machine.
    host: str
    #: Its ``/etc/machine-id``, empty where there is none.
    machine: str
    #: Its ``boot_id``: changes with each start of the machine.
    boot: str
    #: Number of its process namespace.
    processes: int
    #: Number of its network namespace: where loopback means the same interface.
    network: int = 0


def here() -> Placement:
    """Describe this machine."""
    return Placement(
        host=socket.gethostname(),
        machine=_word("/etc/machine-id"),
        boot=_word("/proc/sys/kernel/random/boot_id"),
        processes=os.stat("/proc/self/ns/pid").st_ino,
        network=os.stat("/proc/self/ns/net").st_ino,
    )


def may_run_elsewhere(then: Placement, now: Placement, held: bool) -> bool:
    """Whether a cluster started at ``then`` may run out of the reach of ``now``. Pure."""
    if then.boot == now.boot:  # a container has its own processes, and what it was may be gone
        return then.processes != now.processes and held
    return (then.host, then.machine) != (now.host, now.machine)


def elsewhere(paths: ClusterPaths) -> str:
    """Name the other machine that a cluster runs on; empty when it runs here or nowhere."""
    then = _elsewhere(paths)
    return "" if then is None else then.host


def _elsewhere(paths: ClusterPaths) -> Placement | None:
    found = read_json(paths.machine)
    if found is None:
        return None
    try:
        then = Placement(**found)
    except TypeError:
        raise PerennialError(
            f"{paths.machine} is damaged: no machine in it; remove it where {paths.root.name} runs"
        ) from None
    held = any(is_held(lock) for lock in paths.run.glob("*.lock"))
    return then if may_run_elsewhere(then, here(), held) else None


def require_here(paths: ClusterPaths) -> None:
    """Refuse to touch a cluster that runs on another machine."""
    if host := elsewhere(paths):
        raise PerennialError(
            f"cluster {paths.root.name} runs on {host}, which shares this home folder; run the"
            f" command there, or remove {paths.machine} if {host} is gone for good"
        )


def require_reach(connection: Connection) -> None:
    """Refuse an address that leads to the cluster only on another machine."""
    cluster, now = connection.cluster, here()
    loopback, then = loopback_host(connection), _elsewhere(cluster_state(cluster))
    if not loopback or then is None or tunnel(cluster).is_file():
        return
    if (then.boot, then.network) == (now.boot, now.network):
        return  # a container without a network of its own
    raise PerennialError(
        f"cluster {cluster} runs on {then.host}, which shares this home folder, and listens on"
        f" {loopback} there; write an address of {then.host} as local.address and run `perennial"
        f" up` there, or run `perennial connect {cluster} --ssh {then.host}` here"
    )


def claim(paths: ClusterPaths) -> None:
    """Record that a cluster runs here."""
    now = asdict(here())
    if read_json(paths.machine) != now:
        write_json(paths.machine, now)


def is_held(lock_path: Path) -> bool:
    """Whether any process holds a service's lock, also one that has no number here."""
    try:
        lock = os.open(lock_path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _word(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
