"""The keeper of a machine as services: it starts and stops the members that the scaler chooses.

Two processes, because the scheduler's answers are unpickled and so can run code: the relay asks
the scheduler, as the cluster's user, and root's keeper, which has no network, does what it allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from perennial.capacity import Use
from perennial.services.configuration import nested
from perennial.services.dask import dask_config, scheduler_address, tls_files
from perennial.services.values import (
    PYTHON,
    Access,
    Command,
    File,
    Lifecycle,
    Limits,
    Service,
    Site,
)
from perennial.spec import ClusterSpec
from perennial.tls import Tls

#: Watchdog time of each, after which systemd restarts it.
WATCHDOG = 120.0


def relay(spec: ClusterSpec, site: Site, machine: str) -> Service:
    """Describe the service that asks the scheduler for a machine, see the module `relay`."""
    config, settings = f"{site.config}/relay.yaml", f"{site.config}/relay.json"
    tls = tls_files(spec, site, "worker")
    content = {
        "machine": machine,
        "scheduler": scheduler_address(spec, site),
        "tls": asdict(Tls(*tls)) if tls else None,
        "socket": site.socket,
    }
    return Service(
        name="relay",
        role="relay",
        description=f"Relay between the scheduler of the Dask cluster {spec.name} and the keeper",
        command=Command(
            argv=(site.python, "-P", "-m", "perennial.platforms.hosts.relay", settings),
            environment=(("DASK_CONFIG", config),),
        ),
        access=Access(secrets=tls),
        limits=Limits(memory=512 * 2**20, open_files=1024),
        lifecycle=Lifecycle(stop_timeout=10.0, notifies=True, watchdog=WATCHDOG),
        files=(
            File(config, dask_config(spec, site, nested(spec.dask))),
            File(settings, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n"),
        ),
    )


def keeper(
    spec: ClusterSpec,
    site: Site,
    user: str,
    most: Mapping[str, int],
    bounds: tuple[Mapping[str, Use], int],
) -> Service:
    """Describe root's part, see `agent.keeper` and `program`.

    A relay that runs as ``user`` may ask it; ``most`` members of each scaled group may run on the
    machine, and ``bounds`` is what one of each may use beside the memory of the services.
    """
    settings, (uses, services) = f"{site.config}/keeper.json", bounds
    content = {
        "cluster": spec.name,
        "user": user,
        "socket": site.socket,
        "state": site.keeper,
        "groups": dict(most),
        "uses": {name: [use.processes, use.memory] for name, use in uses.items()},
        "services": services,
    }
    return Service(
        name="keeper",
        role="keeper",
        description=f"Keeper of the members of the Dask cluster {spec.name} on this machine",
        command=Command(
            # Not the environment's interpreter: whoever has made that could become root by it.
            argv=(PYTHON, "-I", "-S", f"{site.config}/keeper.py", settings),
            directory=site.keeper,
        ),
        access=Access(writes=(site.keeper,)),
        limits=Limits(memory=256 * 2**20, open_files=1024),
        lifecycle=Lifecycle(stop_timeout=10.0, notifies=True, watchdog=WATCHDOG),
        files=(File(settings, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n"),),
    )


def as_one_service(parts: Sequence[Service]) -> tuple[Service, ...]:
    """Let the relay be the keeper as well, where all services run as one user without root."""
    by_role = {part.role: part for part in parts}
    asks, keeps = by_role.get("relay"), by_role.get("keeper")
    if asks is None or keeps is None:
        return tuple(parts)
    [settings] = keeps.files
    one = replace(
        keeps,
        command=replace(
            asks.command,
            argv=(*asks.command.argv, settings.path),
            directory=keeps.command.directory,
        ),
        access=replace(asks.access, writes=keeps.access.writes),
        limits=asks.limits,
        files=(*asks.files, settings),
    )
    return tuple(one if part is keeps else part for part in parts if part is not asks)
