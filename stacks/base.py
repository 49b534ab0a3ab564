"""What the component of every platform shares."""

from __future__ import annotations

from typing import Any

import pulumi

from perennial.errors import PerennialError
from perennial.spec import ClusterSpec
from perennial.stack_outputs import describe

from . import inputs
from .resources import Authority

#: The outputs of every cluster, on every platform.
OUTPUTS = ("scheduler_address", "dashboard_url", "jupyter_url", "connection", "fleets", "cluster")

#: Time that a resource may take: a large environment over a slow line, a long drain.
TIMEOUT = "4h"


def stack() -> str:
    """Return the stack that is deployed as ``project/stack``, without its organization."""
    return f"{pulumi.get_project()}/{pulumi.get_stack()}"


class ClusterComponent(pulumi.ComponentResource):
    """A standing Dask cluster.

    Names of its children begin with its own, so that several stand in one stack; these names are a
    contract.
    """

    #: Such as ``hosts``.
    platform: str
    #: Type of the component, such as ``perennial:index:HostsCluster``, and of earlier versions.
    component_type: str
    earlier: tuple[str, ...] = ()

    scheduler_address: pulumi.Output[str]
    dashboard_url: pulumi.Output[str | None]
    jupyter_url: pulumi.Output[str | None]
    connection: pulumi.Output[dict[str, Any]]
    fleets: pulumi.Output[dict[str, Any]]
    cluster: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        args: ClusterSpec | Any,
        opts: pulumi.ResourceOptions | None = None,
        *,
        force: bool = False,
    ) -> None:
        aliases = [pulumi.Alias(type_=earlier) for earlier in self.earlier]
        own = pulumi.ResourceOptions(aliases=list(aliases))
        super().__init__(self.component_type, name, None, pulumi.ResourceOptions.merge(opts, own))
        try:
            given = inputs.read(args, self.platform, name)
            outputs = self.deploy(name, given, force)
        except (PerennialError, OSError) as error:
            # One line for each fault and no traceback: this ends the program, and Pulumi says so.
            raise pulumi.RunError(str(error)) from None
        # As a text, in which groups keep their order.
        file = pulumi.Output.from_input(given.tree).apply(inputs.dumped)
        outputs["cluster"] = describe(file, outputs["connection"])
        for output in OUTPUTS:
            setattr(self, output, pulumi.Output.from_input(outputs[output]))
        self.connection = pulumi.Output.secret(self.connection)
        self.cluster = pulumi.Output.secret(self.cluster)
        self.register_outputs({output: getattr(self, output) for output in OUTPUTS})

    def deploy(self, name: str, given: inputs.Inputs, force: bool) -> dict[str, Any]:
        """Register the children; return the outputs."""
        raise NotImplementedError

    def child(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        """Return the options of a child: it has time, and is never there twice."""
        times = pulumi.CustomTimeouts(create=TIMEOUT, update=TIMEOUT, delete=TIMEOUT)
        return pulumi.ResourceOptions(
            parent=self, depends_on=list(after), custom_timeouts=times, delete_before_replace=True
        )


def outputs_of(
    spec: ClusterSpec,
    found: pulumi.Output[Any],
    authority: Authority,
    reached: pulumi.Input[str],
    dashboard: pulumi.Input[str | None] = None,
) -> dict[str, Any]:
    """Return the outputs of a cluster, whose clients reach its scheduler and dashboard there."""
    tls = {"ca": authority.ca, "cert": authority.client, "key": authority.client_key}
    connection = {
        "cluster": spec.name,
        "scheduler_address": reached,
        "dashboard_link": dashboard,
        "jupyter_url": found["jupyter_url"],
        "token": authority.token if spec.jupyter is not None else None,
        "tls": tls if spec.security.tls else None,
    }
    keys = ("scheduler_address", "dashboard_url", "jupyter_url", "fleets")
    return {**{key: found[key] for key in keys}, "connection": pulumi.Output.all(**connection)}
