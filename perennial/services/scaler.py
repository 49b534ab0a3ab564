"""The scaler as a service, and its configuration file. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from perennial.fleet import Handle
from perennial.services.configuration import nested
from perennial.services.dask import dask_config, scheduler_address, tls_files
from perennial.services.values import Access, Command, File, Lifecycle, Limits, Service, Site
from perennial.spec import ClusterSpec, WorkerGroup
from perennial.spec.scaling import Scale
from perennial.tls import Tls

#: Members that a group without bounds may have.
MOST = 100_000

#: Seconds of its watchdog.
WATCHDOG = 120.0


def scaler(spec: ClusterSpec, site: Site, fleets: Mapping[str, Handle]) -> Service:
    """Describe the service that sizes groups by what their work asks for.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file; it has groups that are `scaled`.
    site : Site
        Where things are.
    fleets : mapping of str to Handle
        How the fleet of each group is reached: its handle. Of groups without `scale` only those
        that it shall know of, because they do some of the work.
    """
    if spec.scaler is None:
        raise ValueError("the cluster has no scaler")
    config, settings = f"{site.config}/scaler.yaml", f"{site.config}/scaler.json"
    text = json.dumps(settings_of(spec, site, fleets), indent=2, ensure_ascii=False)
    return Service(
        name="scaler",
        role="scaler",
        description=f"Scaler of the Dask cluster {spec.name}",
        command=Command(
            argv=(*site.running("perennial.scaler"), settings),
            environment=(("DASK_CONFIG", config),),
            directory=site.scaler,
        ),
        access=Access(
            secrets=tls_files(spec, site, "client"),
            writes=(site.scaler,),
            ports=(spec.scaler.port,),
        ),
        limits=Limits(memory=spec.scaler.memory),
        lifecycle=Lifecycle(
            stop_timeout=20.0,
            notifies=True,
            watchdog=max(WATCHDOG, 3 * spec.scaler.interval),
            health=f"http://127.0.0.1:{spec.scaler.port}/health",
        ),
        files=(
            File(config, dask_config(spec, site, nested(spec.dask))),
            File(settings, f"{text}\n"),
        ),
    )


def settings_of(spec: ClusterSpec, site: Site, fleets: Mapping[str, Handle]) -> dict[str, object]:
    """Return the scaler's configuration, see `perennial.scaler.settings`."""
    if spec.scaler is None:
        raise ValueError("the cluster has no scaler")
    tls = tls_files(spec, site, "client")
    return {
        "cluster": spec.name,
        "platform": spec.platform,
        "scheduler": scheduler_address(spec, site),
        "tls": asdict(Tls(*tls)) if tls else None,
        "http": f"127.0.0.1:{spec.scheduler.dashboard_port}",
        "interval": spec.scaler.interval,
        "budget": spec.scaler.budget,
        "dry_run": spec.scaler.dry_run,
        "port": spec.scaler.port,
        "state": site.scaler,
        "groups": [
            _group(name, group, fleets[name])
            for name, group in spec.workers.items()
            if name in fleets or name in spec.scaled
        ],
    }


def _group(name: str, group: WorkerGroup, fleet: Handle) -> dict[str, object]:
    """Write the rules of a group in the words of `perennial.scaler.values.Group`."""
    # One without bounds has the size that its fleet says, and its cost is nobody's choice.
    scale = group.scale or Scale(min=0, max=MOST)
    return {
        "name": name,
        "min": scale.min,
        "max": scale.max,
        "slots": group.threads * group.processes,
        "processes": group.processes,
        "resources": dict(sorted(group.resources.items())),
        "memory": group.memory * group.processes,
        "priority": scale.priority,
        "cost": scale.cost if group.scale else 0.0,
        "start_up": scale.start_up,
        "idle": scale.idle,
        "drain": group.drain,
        "horizon": scale.horizon,
        "step_up": scale.step_up,
        "step_down": scale.step_down,
        "on_deadline": scale.on_deadline,
        "schedules": [
            schedule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for schedule in scale.schedules
        ],
        "fleet": fleet.to_json(),
    }
