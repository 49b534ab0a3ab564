"""A cluster on machines that are reached over SSH."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import pulumi

from perennial.errors import PerennialError, SpecError
from perennial.fleet import written
from perennial.platforms.hosts import deploy, machine_services, machine_spec
from perennial.platforms.hosts.claims import claims
from perennial.platforms.hosts.machine_spec import MachineInputs, Values
from perennial.platforms.hosts.ownership import Owner
from perennial.platforms.hosts.secrets import own_certificate
from perennial.spec import ClusterSpec
from perennial.state import UP

from .args import (
    EnvironmentArgs,
    HostsClusterArgs,
    HostsOptionsArgs,
    JupyterArgs,
    MachineArgs,
    ScaleArgs,
    SchedulerArgs,
    WorkerGroupArgs,
)
from .base import ClusterComponent, outputs_of, stack
from .host_planning import described, first
from .inputs import Inputs, refused
from .journal import entries
from .provider.hosts import environment_inputs
from .resources import Authority, HostEnvironment, HostServices
from .up_to_date import unchanged

#: Beside the component: what `perennial up` asks before and after the engine.
__all__ = [
    "Cluster",
    "EnvironmentArgs",
    "HostsCluster",
    "HostsClusterArgs",
    "HostsOptionsArgs",
    "JupyterArgs",
    "MachineArgs",
    "ScaleArgs",
    "SchedulerArgs",
    "WorkerGroupArgs",
    "described",
    "entries",
    "first",
    "stop_scheduler",
    "unchanged",
]


#: Keys that often hold a secret, and of which no output is made.
_PRIVATE = ("env", "dask", "private_key")


class HostsCluster(ClusterComponent):
    """A scheduler, worker groups and Jupyter on hosts.

    Its children are ``<name>-authority``, and ``<name>-<machine>-environment`` and
    ``<name>-<machine>-services`` for each machine. The scheduler's machine is deployed first,
    because a worker is ready when its scheduler knows it; the others side by side.

    Parameters
    ----------
    name : str
        Name of the component.
    args : HostsClusterArgs, mapping or ClusterSpec
        The keys of a cluster file. Names, groups, counts and roles are known when the program runs;
        any other value may be an Output.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Deploy members although their machine cannot hold what they may use, and take over machines
        on which another stack has deployed a cluster of this name.

    Raises
    ------
    pulumi.RunError
        Where the arguments are no valid cluster file; one line for each fault.
    """

    platform = "hosts"
    component_type = "perennial:index:HostsCluster"
    earlier = ("perennial:hosts:HostsCluster",)

    def deploy(self, name: str, given: Inputs, force: bool) -> dict[str, Any]:
        """Register the authority, and the resources of each machine."""
        spec = given.spec
        specs, by_machine = (
            machine_spec.machine_specs(spec, given.tree),
            machine_services.services_by_machine(spec),
        )
        outputs = {name: _public(values) for name, values in specs.items()}
        for values in specs.values():
            if "private_key" in values["machine"]:
                secret = pulumi.Output.secret(values["machine"]["private_key"])
                values["machine"]["private_key"] = secret
        authority = Authority(
            f"{name}-authority", {"cluster": spec.name}, "authority", self.child()
        )
        secrets = _secrets(given, authority)
        owner = {"stack": given.deployer or stack(), **({"force": True} if force else {})}
        begun: list[pulumi.Resource] = []
        for machine in sorted(specs, key=lambda machine: "scheduler" not in specs[machine]["runs"]):
            props = {**specs[machine], "secrets": secrets, **owner}
            assigned = by_machine[machine]
            own = {
                **environment_inputs(spec, specs[machine], assigned),
                **{"claims": claims(assigned), **owner},
            }
            environment = HostEnvironment(
                f"{name}-{machine}-environment", own, f"{machine}-environment", self.child()
            )
            services = HostServices(
                f"{name}-{machine}-services",
                props,
                f"{machine}-services",
                self.child(environment, *begun),
            )
            begun = begun or [services]
        return _outputs(spec, outputs, authority)


def _public(values: MachineInputs) -> MachineInputs:
    """Leave out what no address is made of: a secret in it would make secrets of them all."""
    groups = {name: _plain(group) for name, group in values["cluster"]["workers"].items()}
    cluster = {**_plain(values["cluster"]), "workers": groups}
    return {**values, "machine": _plain(values["machine"]), "cluster": cluster}


def _plain(values: Values) -> Values:
    return {key: each for key, each in values.items() if key not in _PRIVATE}


def _outputs(
    spec: ClusterSpec, specs: Mapping[str, MachineInputs], authority: Authority
) -> dict[str, Any]:
    scheduler = next(values for values in specs.values() if "scheduler" in values["runs"])
    jupyter = next((values for values in specs.values() if "jupyter" in values["runs"]), None)
    members = {name: values["members"] for name, values in specs.items()}

    def addresses(values: Any) -> Values:
        try:
            first = machine_spec.read(values[0])
            second = machine_spec.read(values[1]) if values[1] else None
        except SpecError as error:
            raise refused(error, spec.name) from None
        outside = machine_services.connection_parts(first, second)
        return {
            "scheduler_address": outside.scheduler,
            "dashboard_url": outside.dashboard,
            "jupyter_url": outside.jupyter,
            "fleets": written(machine_services.fleets_of(first, members)),
        }

    found = pulumi.Output.all(scheduler, jupyter).apply(addresses)
    return outputs_of(
        spec, found, authority, found["scheduler_address"], dashboard=found["dashboard_url"]
    )


#: What the registry of stacks looks for.
Cluster = HostsCluster


def stop_scheduler(spec: ClusterSpec, had: Collection[str], say: Callable[[str], None]) -> None:
    """Stop the scheduler before all the rest: no member then drains for those that go as well."""
    for name, assigned in machine_services.services_by_machine(spec).items():
        if name in had and assigned.runs("scheduler"):
            with suppress(PerennialError):  # removing it reports the error
                say(f"stopping the scheduler on {name}")
                deploy.stop_scheduler(assigned, say, Owner(stack=UP))


def _secrets(given: Inputs, authority: Authority) -> pulumi.Output[Values]:
    """Collect what a machine's certificates and its Jupyter are made of."""
    certificate, key = own_certificate(given.spec) or (None, None)
    own = {} if certificate is None else {"jupyter_certificate": certificate, "jupyter_key": key}
    return pulumi.Output.secret(
        pulumi.Output.all(ca=authority.ca, ca_key=authority.ca_key, token=authority.token, **own)
    )
