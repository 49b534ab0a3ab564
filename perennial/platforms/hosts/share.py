"""From a cluster file to what each machine has to do: its share. Pure, but for a wheelhouse.

A share holds nothing of other machines but the scheduler's address, so that a change elsewhere
leaves it equal. It is JSON-able: the input of what is deployed and compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from perennial import render
from perennial import services as values
from perennial.eject import systemd_site
from perennial.jupyter import DASHBOARD_LINK
from perennial.pages import socket_of
from perennial.platforms.hosts import keeper, room
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.environment import environment, python
from perennial.services import ADDRESS, MACHINE, Service, Site
from perennial.spec import ClusterSpec
from perennial.ssh import Hop

if TYPE_CHECKING:
    from perennial.platforms.hosts.duties import Duty
    from perennial.platforms.hosts.machines import Machine

__all__ = [
    "Addresses",
    "Share",
    "Target",
    "connection_parts",
    "environment",
    "fleets",
    "from_json",
    "members",
    "numbers",
    "shares",
    "to_json",
    "wish",
]

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


@dataclass(frozen=True, slots=True)
class Share:
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
    #: Whether Dask speaks TLS.
    tls: bool = True
    #: Members of a group that may be stopped at the same time.
    max_unavailable: int = 1
    #: Socket on which the scheduler serves its pages; empty where it is elsewhere.
    pages: str = ""
    #: Seconds after which a scheduler that does not answer is restarted; 0 for never.
    watchdog: float = 0.0
    #: Those of the groups whose members the scaler chooses: how many may run there.
    kept: dict[str, int] = field(default_factory=dict)

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


def shares(spec: ClusterSpec) -> dict[str, Share]:
    """Divide a cluster among its machines, in the order of the file."""
    duties = spec.options.duties(spec)
    site = _site(spec, duties)
    groups = {name: values.worker(spec, site, name, group) for name, group in spec.workers.items()}
    return {
        machine.called: _share(spec, machine, duties[machine.called], site, groups)
        for machine in spec.options.machines
    }


def wish(spec: ClusterSpec, share: Share) -> dict[str, Any]:
    """Say what Python environment a machine needs, and whose it is."""
    return {**environment(spec, share.runs("jupyter")), "cluster": spec.name}


def connection_parts(spec: ClusterSpec) -> Addresses:
    """Say where a cluster's scheduler, dashboard and JupyterLab are, seen from outside."""
    duties = spec.options.duties(spec)
    dashboard = f"http://127.0.0.1:{spec.scheduler.dashboard_port}/status"
    url = None
    for machine in spec.options.machines:
        duty = duties[machine.called]
        if duty.jupyter and spec.jupyter is not None:
            base = f"https://{values.host(machine.service_host)}:{spec.jupyter.port}"
            url = f"{base}/lab"
            dashboard = f"{base}{DASHBOARD_LINK}" if duty.scheduler else dashboard
    return Addresses(values.scheduler_address(spec, _site(spec, duties)), dashboard, url)


def _site(spec: ClusterSpec, duties: Mapping[str, Duty]) -> Site:
    """Say where things are on every machine alike, with the machine's name still to come."""
    [first] = [one for one in spec.options.machines if duties[one.called].scheduler]
    state = f"{render.STATE}/dask-perennial/{spec.name}"
    return replace(
        systemd_site(spec, python(spec), ADDRESS),
        scaler=f"{state}/scaler",
        keeper=f"{state}/keeper",
        socket=str(manifest.socket(spec.name)),
        machine=MACHINE,
        scheduler=first.service_host,
        jupyter_address=ADDRESS,
        dashboard=duties[first.called].jupyter,
    )


def _share(
    spec: ClusterSpec, machine: Machine, duty: Duty, site: Site, groups: Mapping[str, Service]
) -> Share:
    found = [values.scheduler(spec, site)] if duty.scheduler else []
    found += [values.filled(groups[name], MACHINE, machine.called) for name in duty.counts]
    found += [values.jupyter(spec, site)] if duty.jupyter else []
    if duty.scheduler and spec.scaled:
        found.append(values.scaler(spec, site, fleets(spec)))
    kept = _kept(spec, duty)
    if kept:
        relay = keeper.relay(spec, site, machine.called)
        user, of_all = render.user(spec.name, relay), room.uses(spec)
        uses = {group: of_all[group] for group in duty.counts}
        found += [relay, keeper.keeper(spec, site, user, kept, (uses, room.services(found)))]
    return Share(
        cluster=spec.name,
        target=_target(spec, machine),
        services=tuple(found),
        counts=dict(duty.counts),
        kept=kept,
        roles=_certificates(spec, duty),
        names=tuple(dict.fromkeys((machine.called, machine.address, machine.service_host))),
        scheduler=values.scheduler_address(spec, site),
        tls=spec.security.tls,
        max_unavailable=spec.options.max_unavailable,
        pages=socket_of(site.pages) if duty.scheduler else "",
        watchdog=spec.scheduler.watchdog if duty.scheduler else 0.0,
    )


def fleets(spec: ClusterSpec) -> dict[str, dict[str, Any]]:
    """Say how each group's fleet is reached: what makes a `HostsFleet`.

    Groups without `scale` are fixed: the scaler knows of them, for they do some of the work.
    """
    duties = spec.options.duties(spec)
    site = _site(spec, duties)
    names = {"ca": "ca", "cert": "client", "key": "client-key"}
    tls = {key: f"{site.tls}/{name}.pem" for key, name in names.items()}
    most = {machine: _kept(spec, duty) for machine, duty in duties.items()}
    return {
        group: {
            "group": group,
            "machines": {machine: kept[group] for machine, kept in most.items() if group in kept},
            "scheduler": values.scheduler_address(spec, site),
            "tls": tls if spec.security.tls else None,
        }
        if group in spec.scaled
        else {"members": _members(group, duties)}
        for group in spec.workers
    }


def _members(group: str, duties: Mapping[str, Duty]) -> list[str]:
    """Name the members of a group on all machines."""
    return [
        f"{group}-{machine}-{number}"
        for machine, duty in duties.items()
        for number in range(duty.counts.get(group, 0))
    ]


def _kept(spec: ClusterSpec, duty: Duty) -> dict[str, int]:
    """List the groups on a machine whose members the scaler chooses: how many may run there."""
    return {group: duty.most[group] for group in duty.counts if group in spec.scaled}


def _target(spec: ClusterSpec, machine: Machine) -> Target:
    options = spec.options
    return Target(
        name=machine.called,
        address=machine.address,
        user=options.of(machine, "user"),
        port=options.of(machine, "port"),
        identity=options.of(machine, "identity"),
        jump=options.of(machine, "jump"),
        known_hosts=options.known_hosts,
        interface=machine.interface,
        internal=machine.internal,
        init=options.of(machine, "init"),
    )


def _certificates(spec: ClusterSpec, duty: Duty) -> tuple[str, ...]:
    """List the certificates that the cluster's authority signs for a machine."""
    own = spec.jupyter is not None and spec.jupyter.certificate is not None
    wanted = {
        "scheduler": duty.scheduler and spec.security.tls,
        "worker": bool(duty.counts) and spec.security.tls,
        "client": (duty.jupyter or (duty.scheduler and bool(spec.scaled))) and spec.security.tls,
        "jupyter": duty.jupyter and not own,
    }
    return tuple(role for role, is_wanted in wanted.items() if is_wanted)


def members(share: Share, sizes: Mapping[str, Size] | None = None) -> dict[str, Service]:
    """List what runs on a machine, member by member: ``scheduler``, ``cpu-machine-b-0``."""
    now: dict[str, Size] = {**share.counts, **(sizes or {})}
    found: dict[str, Service] = {}
    for service in share.services:
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


def to_json(share: Share) -> dict[str, Any]:
    """Write a share as values that JSON can hold."""
    return {
        "cluster": share.cluster,
        "target": asdict(share.target),
        "services": [values.to_json(service) for service in share.services],
        "counts": dict(share.counts),
        "roles": list(share.roles),
        "names": list(share.names),
        "scheduler": share.scheduler,
        "tls": share.tls,
        "max_unavailable": share.max_unavailable,
        "pages": share.pages,
        "watchdog": share.watchdog,
        "kept": dict(share.kept),
    }


def from_json(data: Mapping[str, Any]) -> Share:
    """Read what `to_json` wrote."""
    target = dict(data["target"])
    if target["port"] is not None:
        target["port"] = int(target["port"])
    return Share(
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
        kept={group: int(most) for group, most in data.get("kept", {}).items()},
    )
