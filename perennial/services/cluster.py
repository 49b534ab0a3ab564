"""All the services of a cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from perennial.fleet import Handle
from perennial.services.dask import jupyter, scheduler, worker
from perennial.services.scaler import scaler
from perennial.services.values import Service, Site
from perennial.spec import ClusterSpec


def services(
    spec: ClusterSpec, site: Site, fleets: Mapping[str, Handle] | None = None
) -> tuple[Service, ...]:
    """List what a cluster consists of: the scheduler, each worker group, Jupyter, the scaler.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file.
    site : Site
        Where things are.
    fleets : mapping of str to Handle, or None
        How the fleet of each group is reached by a scaler; None where the platform has no
        fleets, and then there is no scaler either.
    """
    workers = [worker(spec, site, name, group) for name, group in spec.workers.items()]
    labs = [jupyter(spec, site)] if spec.jupyter is not None else []
    scalers = [scaler(spec, site, fleets)] if fleets is not None and spec.scaled else []
    return (scheduler(spec, site), *workers, *labs, *scalers)
