"""Deploy a cluster file on this machine: what `perennial up` does."""

from __future__ import annotations

import re
import resource
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perennial import authority, connect, jupyter, placement, render, revocation
from perennial.capacity import MEANT, Use
from perennial.errors import PerennialError
from perennial.files import make_private, write_atomic
from perennial.pages import socket_of
from perennial.paths import ClusterPaths, cluster_state, fault_of_owner, is_long
from perennial.platforms.local import background, room
from perennial.platforms.local.checks import untrusted_interpreter
from perennial.platforms.local.layout import programs, site
from perennial.services import scheduler_address
from perennial.sizes import members, of_names, sizes
from perennial.spec import ClusterSpec, dump, load
from perennial.state import State
from perennial.supervision.cluster import Cluster
from perennial.supervision.dashboard import Dashboard
from perennial.supervision.plan import Change
from perennial.supervision.program import Program

#: Open files that a scheduler of some thousand workers needs.
OPEN_FILES = 65536


#: What to do about a folder for spilled data that others can change.
SCRATCH_REMEDY = "remove it, or name another folder as local.temporary_directory"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A cluster file on this machine, and what it takes to get there."""

    #: The cluster file.
    spec: ClusterSpec
    #: The cluster's services.
    cluster: Cluster
    #: What will be remembered once it is applied.
    state: State
    #: What shall run.
    programs: Mapping[str, Program]
    #: What is to be done.
    steps: tuple[Change, ...]

    @property
    def paths(self) -> ClusterPaths:
        """The cluster's state folder."""
        return self.cluster.paths

    @property
    def abandoned(self) -> dict[str, str]:
        """What members abandoned that carrying this out has stopped; empty for nothing."""
        stopped = [step.name for step in self.steps if step.stops]
        return {name: self.cluster.abandoned(name) for name in stopped}


def find(name: str, say: Callable[[str], None]) -> Deployment:
    """Look up a cluster of this user's that was deployed before."""
    paths = cluster_state(name)
    placement.require_here(paths)
    if not paths.spec.exists():
        raise PerennialError(
            f"no cluster {name!r} on this machine; `perennial list` shows the names,"
            " `perennial up -f FILE` makes one"
        )
    return prepare(load(paths.spec), State.load(paths).file, say)


def prepare(spec: ClusterSpec, file: str | None, say: Callable[[str], None]) -> Deployment:
    """Compare a cluster file with what is there. Changes nothing."""
    paths = cluster_state(spec.name)
    placement.require_here(paths)
    counts = {name: group.count for name, group in spec.workers.items()}
    return resized(
        Deployment(
            spec,
            Cluster(paths, dashboard(spec, paths), say),
            State(file=file, declared=counts),
            {},
            (),
        ),
        _sizes(spec, paths),
    )


def _sizes(spec: ClusterSpec, paths: ClusterPaths) -> dict[str, int]:
    """Choose how many members each group gets."""
    before = State.load(paths)
    counts = {name: group.count for name, group in spec.workers.items()}
    now = sizes(counts, before.declared, before.sizes)
    here = numbers(paths, spec.workers)
    for group in spec.scaled:
        # Its size belongs to the scaler, whatever the file says now.
        if here[group] or before.sizes.get(group) == 0:
            now[group] = len(here[group])
    return now


def dashboard(spec: ClusterSpec, paths: ClusterPaths) -> Dashboard:
    """Say where the scheduler's pages are."""
    return Dashboard(
        spec.scheduler.dashboard_port,
        socket=socket_of(str(paths.pages)),
        lock=str(paths.run / "scheduler.lock"),
    )


def numbers(paths: ClusterPaths, groups: Collection[str]) -> dict[str, set[int]]:
    """Read the numbers of each group's members off the units on disk."""
    found: dict[str, set[int]] = {group: set() for group in groups}
    for path in paths.units.glob("*.conf"):
        group, _, number = path.stem.rpartition("-")
        if group in found and number.isdecimal():
            found[group].add(int(number))
    return found


def resized(deployment: Deployment, now: Mapping[str, int]) -> Deployment:
    """Plan the same cluster file with other sizes of its groups."""
    spec, paths = deployment.spec, deployment.paths
    here = numbers(paths, spec.workers)
    wanted = programs(spec, paths, {name: members(now[name], here[name]) for name in here})
    return replace(
        deployment,
        state=replace(deployment.state, sizes=dict(now)),
        programs=wanted,
        steps=(*_repairs(deployment.cluster), *deployment.cluster.plan(wanted)),
    )


def _repairs(cluster: Cluster) -> list[Change]:
    """Find that supervisord's main file is another; where none runs, it is written anyway."""
    paths = cluster.paths
    text = paths.supervisord_conf.read_text() if paths.supervisord_conf.is_file() else ""
    # What the limit may be depends on who asks.
    limit = re.search(r"^minfds=([0-9]{1,9})$", text, re.MULTILINE)
    if limit and text == supervisord_conf(paths, int(limit[1])):
        return []
    if not cluster.supervisor.pid():  # asked last: one that hangs takes half a minute
        return []
    found = "is not as this version writes it" if text else "is missing"
    return [Change("repair", "supervisord", f"{paths.supervisord_conf.name} {found}")]


def apply(deployment: Deployment, ready: Callable[[], None] = lambda: None) -> None:
    """Carry the plan out. The caller holds the cluster's lock."""
    spec, paths = deployment.spec, deployment.paths
    if foreign := untrusted_interpreter(spec):  # `pulumi up` has not judged the file
        raise PerennialError(foreign.render(spec.name))
    room.check(spec, deployment.state.sizes, Use(), meant="")
    make_private(paths.root)
    placement.claim(paths)
    # Remembered first: cut off from here on, `down`, `status` and `up` know the cluster.
    write_atomic(paths.spec, dump(spec))
    deployment.state.save(paths)
    make_secrets(spec, paths)
    connect.save(paths, connection(spec, paths))
    _make_scratch(Path(site(spec, paths).scratch))
    make_private(paths.work)
    if spec.scaled:
        make_private(paths.scaler)
    conf, steps = supervisord_conf(paths, open_files()), deployment.steps
    if any(step.action == "repair" for step in steps):
        write_atomic(paths.supervisord_conf, conf)
    steps = tuple(step for step in steps if step.action != "repair")
    background.apply(deployment.cluster, deployment.programs, steps, conf, ready)


def settle(deployment: Deployment) -> None:
    """Wait until a cluster to which nothing has to be done has its workers and pages."""
    deployment.cluster.settle(deployment.programs)


def supervisord_conf(paths: ClusterPaths, limit: int) -> str:
    """Write supervisord's main file."""
    log = paths.logs / "supervisord.log"
    within = is_long(paths.socket)
    return render.supervisord_conf(paths.socket, log, paths.units, limit, within)


def check_room(
    spec: ClusterSpec,
    wanted: Mapping[str, int] = {},
    force: bool = False,
    meant: str = MEANT,
) -> None:
    """Refuse members that this machine cannot hold, unless they stand, before any is planned.

    With ``force`` only those are refused that it could not hold while they do nothing; ``meant``
    is how a person says it.
    """
    paths = cluster_state(spec.name)
    placement.require_here(paths)
    now = {**_sizes(spec, paths), **wanted}
    room.check(spec, now, _standing(paths), meant="" if force else meant)


def _standing(paths: ClusterPaths) -> Use:
    """Say what the members may use that are there already."""
    if not paths.spec.exists():
        return Use()
    names = [path.stem for path in paths.units.glob("*.conf")]
    return of_names(load(paths.spec, remembered=True), names)


def _make_scratch(folder: Path) -> None:
    make_private(folder)
    if fault := fault_of_owner(folder):
        raise PerennialError(f"{folder}: {fault}; {SCRATCH_REMEDY}")


def open_files() -> int:
    """Limit of open files for the services: what they would like, or what the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)


def make_secrets(spec: ClusterSpec, paths: ClusterPaths) -> None:
    """Make the certificates and Jupyter's token, where they are missing."""
    if spec.security.tls:
        authority.ensure(paths.tls, spec.name, (*authority.local_names(), spec.options.address))
        revocation.ensure(paths.tls, spec.name)
    if spec.jupyter is not None:
        place = site(spec, paths)
        token = token_file(spec, paths)
        if not _says_something(token):
            write_atomic(token, secrets.token_hex(24))
        make_private(Path(jupyter.state_directory(place)))
        make_private(Path(jupyter.notebook_directory(spec.jupyter, place)))


def secrets_missing(spec: ClusterSpec, paths: ClusterPaths) -> bool:
    """Whether somebody has removed certificates or the token of a cluster."""
    needed = [token_file(spec, paths)] if spec.jupyter is not None else []
    if spec.security.tls:
        roles = ("scheduler", "worker", "client")
        names = ["ca", *roles, *(f"{role}-key" for role in roles)]
        needed += [paths.tls / f"{name}.pem" for name in names]
    return not all(map(_says_something, needed))


def _says_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def token_file(spec: ClusterSpec, paths: ClusterPaths) -> Path:
    """File of Jupyter's token."""
    return Path(jupyter.token_file(site(spec, paths)))


def jupyter_url(spec: ClusterSpec) -> str | None:
    """Where JupyterLab is, without its token."""
    return f"http://127.0.0.1:{spec.jupyter.port}/lab" if spec.jupyter else None


def dashboard_url(spec: ClusterSpec) -> str:
    """Where Dask's dashboard is reached: behind Jupyter's login, or bare on loopback."""
    if spec.jupyter is None:
        return f"http://127.0.0.1:{spec.scheduler.dashboard_port}/status"
    return f"http://127.0.0.1:{spec.jupyter.port}{jupyter.DASHBOARD_LINK}"


def connection(spec: ClusterSpec, paths: ClusterPaths) -> connect.Connection:
    """Say how a client reaches the cluster."""
    return connect.Connection(
        cluster=spec.name,
        scheduler_address=scheduler_address(spec, site(spec, paths)),
        dashboard_link=dashboard_url(spec),
        tls=connect.Tls.in_folder(paths.tls) if spec.security.tls else None,
        jupyter_url=jupyter_url(spec),
    )
