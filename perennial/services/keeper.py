"""The keeper of a machine as a service: it starts and stops the members that the scaler chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping

from perennial.services.configuration import nested
from perennial.services.dask import dask_config, scheduler_address, tls_files
from perennial.services.values import Access, Command, File, Lifecycle, Limits, Service, Site
from perennial.spec import ClusterSpec

#: Seconds without a sign of life after which it is restarted.
WATCHDOG = 120.0


def keeper(spec: ClusterSpec, site: Site, machine: str, most: Mapping[str, int]) -> Service:
    """Describe the service that keeps a machine's members, see `perennial.hosts.keeper`.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file.
    site : Site
        Where things are.
    machine : str
        The machine's name.
    most : mapping of str to int
        How many members of each group that is scaled may run there.
    """
    config, settings = f"{site.config}/keeper.yaml", f"{site.config}/keeper.json"
    tls = tls_files(spec, site, "worker")
    told = {
        "cluster": spec.name,
        "machine": machine,
        "scheduler": scheduler_address(spec, site),
        "tls": dict(zip(("ca", "cert", "key"), tls, strict=True)) if tls else None,
        "state": site.keeper,
        "groups": dict(most),
    }
    return Service(
        name="keeper",
        role="keeper",
        description=f"Keeper of the members of the Dask cluster {spec.name} on this machine",
        command=Command(
            argv=(site.python, "-P", "-m", "perennial.hosts.keeper", settings),
            environment=(("DASK_CONFIG", config),),
            directory=site.keeper,
        ),
        access=Access(secrets=tls, writes=(site.keeper,)),
        limits=Limits(memory=512 * 2**20, open_files=1024),
        lifecycle=Lifecycle(stop_timeout=10.0, notifies=True, watchdog=WATCHDOG),
        files=(
            File(config, dask_config(spec, site, nested(spec.dask))),
            File(settings, f"{json.dumps(told, indent=2)}\n"),
        ),
    )
