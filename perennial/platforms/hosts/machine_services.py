"""From a cluster file to the services of each machine. Pure, but for a wheelhouse.

A `MachineServices` holds nothing of other machines but the scheduler's address, so that a change
elsewhere leaves it equal. It is JSON-able: the input of what is deployed and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from perennial import render
from perennial import services as values
from perennial.eject import folder_site, systemd_site
from perennial.fleet import FixedHandle, Handle
from perennial.jupyter import DASHBOARD_LINK
from perennial.pages import socket_of
from perennial.platforms.hosts import keeper
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.environment import EnvironmentSpec, environment, state
from perennial.platforms.hosts.fleet import HostsHandle
from perennial.platforms.hosts.machine_spec import (
    MachineCluster,
    MachineEntry,
    MachineSpec,
    Members,
    Values,
    machine_specs,
    read,
)
from perennial.services import ADDRESS, MACHINE, Service, Site
from perennial.services.dask import tls_files
from perennial.sizes import of_member, of_services
from perennial.spec import ClusterSpec
from perennial.ssh import Hop
from perennial.tls import Tls

__all__ = [
    "Addresses",
    "MachineServices",
    "Target",
    "addresses",
    "connection_parts",
    "environment",
    "environment_spec",
    "fleets",
    "from_json",
    "members",
    "numbers",
    "services_by_machine",
    "services_of",
    "to_json",
]

#: Keys of a target that earlier versions did not have.
_LATER_KEYS = ("host_key", "jump_host_key", "private_key", "connect_timeout")
#: How many members there are, or their numbers.
Size = int | Collection[int]


@dataclass(frozen=True, slots=True)
class Target(Hop):
    """How a machine of a cluster is reached, and where its services listen."""

    #: Network interface on whose address its services listen.
    interface: str | None = None
    #: IP address or name by which other machines reach its services.
    internal: str | None = None
    #: Its service manager; None where the machine is asked.
    init: Literal["systemd", "supervisord"] | None = None
    #: Seconds for which a deployment waits until it answers; no part of what it is.
    connect_timeout: float | None = field(default=None, compare=False)

    @property
    def needs_root(self) -> bool:
        """Whether the services are the system's, and not those of the login user."""
        return self.init != "supervisord"


@dataclass(frozen=True, slots=True)
class MachineServices:
    """All that one machine has to do with."""

    #: The cluster's name.
    cluster: str
    #: How the machine is reached.
    target: Target
    #: What runs there; a worker group with `INSTANCE`, addresses with `ADDRESS` in them.
    services: tuple[Service, ...]
    #: First number of members of each group that has a place there.
    counts: dict[str, int]
    #: Certificates that its services need: ``scheduler``, ``worker``, ``client``, ``jupyter``.
    roles: tuple[str, ...]
    #: Names and addresses for its certificates, beside those that the machine itself knows.
    names: tuple[str, ...]
    #: The scheduler's address, such as ``tls://machine-a:8786``.
    scheduler: str
    #: Whether Dask uses TLS.
    tls: bool = True
    #: Members of a group that may be stopped at the same time.
    max_unavailable: int = 1
    #: Socket on which the scheduler serves its pages; empty where it is elsewhere.
    pages: str = ""
    #: Seconds after which a scheduler that does not answer is restarted; 0 for never.
    watchdog: float = 0.0
    #: Those of the groups whose members the scaler chooses: how many may run there.
    scaled: dict[str, int] = field(default_factory=dict)
    #: Bytes that the services may use which are no members; follows from them.
    beside: int = field(default=0, compare=False)

    def runs(self, role: str) -> bool:
        """Whether the machine runs a service of a role."""
        return any(service.role == role for service in self.services)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What clients outside the machines connect to."""

    #: Such as ``tls://machine-a.example.org:8786``.
    scheduler: str
    #: Dask's dashboard: behind JupyterLab's login, or on the scheduler's loopback.
    dashboard: str
    #: JupyterLab, without its token.
    jupyter: str | None


def services_by_machine(spec: ClusterSpec) -> dict[str, MachineServices]:
    """Divide a cluster among its machines, in the order of the file."""
    return {name: services_of(read(values)) for name, values in machine_specs(spec).items()}


def environment_spec(spec: ClusterSpec, assigned: MachineServices) -> EnvironmentSpec:
    """Say what Python environment a machine needs, and whose it is."""
    needed = environment(spec, assigned.runs("jupyter"), assigned.target.needs_root)
    return {**needed, "cluster": spec.name}


def connection_parts(scheduler: MachineSpec, jupyter: MachineSpec | None) -> Addresses:
    """Say where a cluster's scheduler, dashboard and JupyterLab are, seen from outside."""
    cluster, url = scheduler.cluster, None
    dashboard = f"http://127.0.0.1:{cluster.scheduler.dashboard_port}/status"
    if jupyter is not None and jupyter.cluster.jupyter is not None:
        host, port = values.host(jupyter.machine.service_host), jupyter.cluster.jupyter.port
        url = f"https://{host}:{port}/lab"
        if scheduler.dashboard:
            dashboard = f"https://{host}:{port}{DASHBOARD_LINK}"
    return Addresses(values.scheduler_address(cluster, _site(scheduler)), dashboard, url)


def addresses(spec: ClusterSpec) -> Addresses:
    """Say where a cluster's scheduler, dashboard and JupyterLab are, seen from outside."""
    machines = machine_specs(spec).values()
    [scheduler] = [read(one) for one in machines if "scheduler" in one["runs"]]
    jupyter = next((read(one) for one in machines if "jupyter" in one["runs"]), None)
    return connection_parts(scheduler, jupyter)


def _site(spec: MachineSpec) -> Site:
    """Say where things are on every machine alike, with the machine's name still to come."""
    cluster, root = spec.cluster, spec.machine.needs_root
    folder = state(cluster.name, root)
    return replace(
        systemd_site(cluster, spec.python, ADDRESS)
        if root
        else folder_site(cluster, folder, f"{folder}/jupyter", spec.python, ADDRESS),
        scaler=f"{folder}/scaler",
        keeper=f"{folder}/keeper",
        socket=str(manifest.socket(cluster.name)) if root else f"{folder}/keeper.sock",
        machine=MACHINE,
        scheduler=spec.scheduler_host,
        jupyter_address=ADDRESS,
        dashboard=spec.dashboard,
    )


def services_of(spec: MachineSpec) -> MachineServices:
    """Say what one machine has to do with."""
    cluster, machine, site = spec.cluster, spec.machine, _site(spec)
    scheduler, counts, scaled = "scheduler" in spec.runs, spec.members.counts, spec.members.most
    found = [values.scheduler(cluster, site)] if scheduler else []
    found += [
        values.filled(_worker(cluster, site, name), MACHINE, machine.called) for name in counts
    ]
    found += [values.jupyter(cluster, site)] if "jupyter" in spec.runs else []
    if spec.everywhere:
        found.append(values.scaler(cluster, site, _fleets(spec)))
    beside = of_services(cluster, {part.role for part in found})
    if scaled:
        relay = keeper.relay(cluster, site, machine.called)
        user = render.user(cluster.name, relay)
        uses = {group: of_member(cluster.workers[group]) for group in counts}
        found += [relay, keeper.keeper(cluster, site, user, scaled, (uses, beside))]
    return MachineServices(
        cluster=cluster.name,
        target=target(machine),
        services=tuple(found),
        counts=dict(counts),
        scaled=dict(scaled),
        roles=_certificates(spec),
        names=tuple(dict.fromkeys((machine.called, machine.address, machine.service_host))),
        scheduler=values.scheduler_address(cluster, site),
        tls=cluster.security.tls,
        max_unavailable=spec.max_unavailable,
        pages=socket_of(site.pages) if scheduler else "",
        watchdog=cluster.scheduler.watchdog if scheduler else 0.0,
        beside=beside,
    )


def _worker(cluster: MachineCluster, site: Site, name: str) -> Service:
    """Describe a group, the same for every machine until its name is filled in."""
    known = cluster.described
    if (site, name) not in known:
        known[site, name] = values.worker(cluster, site, name, cluster.workers[name])
    return known[site, name]


def fleets(spec: ClusterSpec) -> dict[str, Handle]:
    """Say how each group's fleet is reached."""
    machines = machine_specs(spec)
    [scheduler] = [read(one) for one in machines.values() if "scheduler" in one["runs"]]
    return fleets_of(scheduler, {name: one["members"] for name, one in machines.items()})


def fleets_of(scheduler: MachineSpec, machines: Mapping[str, Values]) -> dict[str, Handle]:
    """Return the same, from the scheduler's machine and the members of all machines."""
    if scheduler.everywhere:
        return _fleets(scheduler)
    every = {name: Members.model_validate(own) for name, own in machines.items()}
    groups = sorted({group for own in every.values() for group in own.counts})
    return {group: FixedHandle(members=_members(group, every)) for group in groups}


def _fleets(spec: MachineSpec) -> dict[str, Handle]:
    """Say how each group's fleet is reached.

    Groups without `scale` are fixed: the scaler knows of them, for they do some of the work.
    """
    cluster, site = spec.cluster, _site(spec)
    files = tls_files(cluster, site, "client")
    every = {one.machine: one for one in spec.everywhere}
    return {
        group: HostsHandle(
            group=group,
            machines={one: own.most[group] for one, own in every.items() if group in own.most},
            scheduler=values.scheduler_address(cluster, site),
            tls=Tls(*files) if files else None,
        )
        if group in cluster.scaled
        else FixedHandle(members=_members(group, every))
        for group in cluster.workers
    }


def _members(group: str, machines: Mapping[str, Members]) -> tuple[str, ...]:
    """Name the members of a group on all machines."""
    return tuple(
        f"{group}-{machine}-{number}"
        for machine, own in machines.items()
        for number in range(own.counts.get(group, 0))
    )


def target(machine: MachineEntry) -> Target:
    """Say how a machine is reached."""
    return Target(
        name=machine.called,
        address=machine.address,
        user=machine.user,
        port=machine.port,
        identity=machine.identity,
        jump=machine.jump,
        known_hosts=machine.known_hosts,
        host_key=machine.host_key,
        jump_host_key=machine.jump_host_key,
        private_key=machine.private_key,
        connect_timeout=machine.connect_timeout,
        interface=machine.interface,
        internal=machine.internal,
        init=machine.init,
    )


def _certificates(spec: MachineSpec) -> tuple[str, ...]:
    """List the certificates that the cluster's authority signs for a machine."""
    tls, jupyter = spec.cluster.security.tls, spec.cluster.jupyter
    wanted = {
        "scheduler": "scheduler" in spec.runs and tls,
        "worker": bool(spec.members.counts) and tls,
        "client": (jupyter is not None or bool(spec.everywhere)) and tls,
        "jupyter": jupyter is not None and jupyter.certificate is None,
    }
    return tuple(role for role, is_wanted in wanted.items() if is_wanted)


def members(
    assigned: MachineServices, sizes: Mapping[str, Size] | None = None
) -> dict[str, Service]:
    """List what runs on a machine, member by member: ``scheduler``, ``cpu-machine-b-0``."""
    now: dict[str, Size] = {**assigned.counts, **(sizes or {})}
    found: dict[str, Service] = {}
    for service in assigned.services:
        if service.group is None:
            found[service.name] = service
            continue
        for index in numbers(now[service.group]):
            member = service.member(str(index))
            found[member.name] = member
    return found


def numbers(size: Size) -> Sequence[int]:
    """List the numbers of members: the lowest ones, where it is only said how many."""
    return range(size) if isinstance(size, int) else sorted(size)


def to_json(assigned: MachineServices) -> dict[str, object]:
    """Write a machine's services as values that JSON can hold."""
    return {
        "cluster": assigned.cluster,
        "target": _target_to_json(assigned.target),
        "services": [values.to_json(service) for service in assigned.services],
        "counts": dict(assigned.counts),
        "roles": list(assigned.roles),
        "names": list(assigned.names),
        "scheduler": assigned.scheduler,
        "tls": assigned.tls,
        "max_unavailable": assigned.max_unavailable,
        "pages": assigned.pages,
        "watchdog": assigned.watchdog,
        "kept": dict(assigned.scaled),
    }


def _target_to_json(target: Target) -> dict[str, object]:
    """Write how a machine is reached, with a digest in the place of its private key.

    How long it is waited for is nothing to compare; what an earlier version did not know is only
    there where it is given.
    """
    found = {
        key: value
        for key, value in asdict(target).items()
        if value is not None or key not in _LATER_KEYS
    }
    found.pop("connect_timeout", None)
    if key := target.private_key:
        found["private_key"] = hashlib.sha256(key.encode()).hexdigest()[:16]
    return found


def from_json(data: Mapping[str, Any]) -> MachineServices:
    """Read what `to_json` wrote; a private key is not in it."""
    target = {key: value for key, value in data["target"].items() if key != "private_key"}
    if target["port"] is not None:
        target["port"] = int(target["port"])
    return MachineServices(
        cluster=data["cluster"],
        target=Target(**target),
        services=tuple(values.from_json(service) for service in data["services"]),
        counts={group: int(count) for group, count in data["counts"].items()},
        roles=tuple(data["roles"]),
        names=tuple(data["names"]),
        scheduler=data["scheduler"],
        tls=data["tls"],
        max_unavailable=int(data["max_unavailable"]),
        pages=data.get("pages", ""),  # an earlier version wrote none
        watchdog=float(data["watchdog"]),
        scaled={group: int(most) for group, most in data.get("kept", {}).items()},
    )
