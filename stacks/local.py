"""A cluster on the machine that runs Pulumi: the same code as `perennial up`, as one resource."""

from __future__ import annotations

from typing import Any

import pulumi

from perennial.fleet import written
from perennial.paths import cluster_state
from perennial.platforms.local.layout import fleets

from .args import (
    JupyterArgs,
    LocalClusterArgs,
    LocalOptionsArgs,
    ScaleArgs,
    SchedulerArgs,
    WorkerGroupArgs,
)
from .base import ClusterComponent
from .host_resources import LocalProvider
from .inputs import Inputs
from .resources import LocalServices

#: `LocalProvider` is found here by what earlier versions have left in a stack.
__all__ = [
    "Cluster",
    "JupyterArgs",
    "LocalCluster",
    "LocalClusterArgs",
    "LocalOptionsArgs",
    "LocalProvider",
    "ScaleArgs",
    "SchedulerArgs",
    "WorkerGroupArgs",
]


class LocalCluster(ClusterComponent):
    """A scheduler, worker groups and Jupyter on this machine. Its child is ``<name>-services``.

    Parameters
    ----------
    name : str
        Name of the component.
    args : LocalClusterArgs, mapping or ClusterSpec
        The keys of a cluster file. Names, groups and counts are known when the program runs; any
        other value may be an Output.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Deploy members although this machine cannot hold what they may use, and take over a cluster
        of this name that `perennial up` or another stack has deployed.

    Raises
    ------
    pulumi.RunError
        Where the arguments are no valid cluster file; one line for each fault.
    """

    platform = "local"
    component_type = "perennial:index:LocalCluster"
    earlier = ("perennial:local:LocalCluster",)

    def deploy(self, name: str, given: Inputs, force: bool) -> dict[str, Any]:
        """Register the services."""
        groups = [*given.spec.workers]  # mappings lose their order on their way
        props = {
            **{"cluster": given.tree, "groups": groups, "stack": pulumi.get_stack()},
            **({"force": True} if force else {}),
        }
        services = LocalServices(f"{name}-services", props, "services", self.child())
        connection = services.connection
        both = pulumi.Output.all(connection, services.credentials)
        handles = fleets(given.spec, cluster_state(given.spec.name))
        return {
            "scheduler_address": connection["scheduler_address"],
            # The engine leaves out what is None.
            "dashboard_url": connection.apply(lambda known: known.get("dashboard_link")),
            "jupyter_url": connection.apply(lambda known: known.get("jupyter_url")),
            # Where the one names files, the other has what is in them.
            "connection": both.apply(lambda parts: {**parts[0], "tls": None, **parts[1]}),
            "fleets": pulumi.Output.from_input(written(handles)),
        }


#: What the registry of stacks looks for.
Cluster = LocalCluster
