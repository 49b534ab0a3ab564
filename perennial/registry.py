"""The platforms that a cluster can stand on: the one registry."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from perennial.errors import Fault, SpecError

__all__ = ["FLEETS", "PLATFORMS", "Platform", "fleet", "has_fleet", "options"]


@dataclass(frozen=True, slots=True)
class Platform:
    """Where the parts of a platform are: dotted names, imported on use.

    So a laptop needs no cloud's library. See `perennial.contracts` for `Deployer` and `Runtime`.
    """

    #: Class of what a person writes under the platform's own key.
    options: str
    #: Class of the members of one group.
    fleet: str
    #: Class of what deploys it; `perennial.stacked.StackDeployer` deploys every stack.
    deployer: str
    #: Class of a cluster that runs, or a function that chooses one.
    runtime: str
    #: Module of Pulumi's component, ``Cluster``.
    stack: str
    #: Extra of this package that brings what it needs; empty for none.
    extra: str = ""
    #: Class of what carries connections to a cluster from outside, see `perennial.tunnel`.
    transport: str = ""
    #: Command that renews the client's certificate.
    renews: str = "up"
    #: What `perennial render` can write of it.
    formats: tuple[str, ...] = ("systemd", "supervisord")


PLATFORMS = {
    "local": Platform(
        options="perennial.platforms.local.options.Options",
        fleet="perennial.platforms.local.fleet.LocalFleet",
        deployer="perennial.platforms.local.deployer.LocalDeployer",
        runtime="perennial.platforms.local.runtime.LocalRuntime",
        stack="perennial.stacks.local",
        renews="rotate",
    ),
    "hosts": Platform(
        options="perennial.platforms.hosts.options.Options",
        fleet="perennial.platforms.hosts.fleet.HostsFleet",
        deployer="perennial.platforms.hosts.deployer.HostsDeployer",
        runtime="perennial.platforms.hosts.runtime.HostsRuntime",
        stack="perennial.stacks.hosts",
        extra="hosts",
    ),
    "kubernetes": Platform(
        options="perennial.platforms.kubernetes.options.Options",
        fleet="perennial.platforms.kubernetes.fleet.KubernetesFleet",
        deployer="perennial.platforms.kubernetes.deployer.KubernetesDeployer",
        runtime="perennial.platforms.kubernetes.chart.standing.runtime",
        stack="perennial.stacks.kubernetes",
        extra="kubernetes",
        transport="perennial.platforms.kubernetes.port_forward.PortForward",
        formats=("kubernetes",),
    ),
    "ec2": Platform(
        options="perennial.platforms.ec2.options.Options",
        fleet="perennial.platforms.ec2.fleet.Ec2Fleet",
        deployer="perennial.platforms.ec2.deployer.Ec2Deployer",
        runtime="perennial.platforms.ec2.runtime.Ec2Runtime",
        stack="perennial.stacks.ec2",
        extra="aws",
        transport="perennial.platforms.ec2.port_forward.PortForward",
        formats=("ec2",),
    ),
    "fargate": Platform(
        options="perennial.platforms.fargate.options.Options",
        fleet="perennial.platforms.fargate.fleet.FargateFleet",
        deployer="perennial.platforms.fargate.deployer.FargateDeployer",
        runtime="perennial.platforms.fargate.runtime.FargateRuntime",
        stack="perennial.stacks.fargate",
        extra="aws",
        transport="perennial.platforms.fargate.sessions.Sessions",
        formats=("fargate",),
    ),
}

#: Fleets of what no cluster file can name: simulations and tests.
FLEETS = {"memory": "perennial.platforms.memory.MemoryFleet"}


def options(platform: str) -> Any:
    """Return the model of what a person writes under a platform's own key."""
    if platform not in PLATFORMS:
        near = get_close_matches(platform, PLATFORMS, n=1)
        fix = f"did you mean {near[0]}?" if near else "write one of these"
        raise SpecError([Fault("platform", repr(platform), ", ".join(sorted(PLATFORMS)), fix)])
    return _loaded(PLATFORMS[platform].options)


def has_fleet(platform: str) -> bool:
    """Whether a scaler can resize groups there."""
    return platform in PLATFORMS or platform in FLEETS


def fleet(platform: str) -> Any:
    """Return the class of a platform's fleets."""
    return _loaded(FLEETS[platform] if platform in FLEETS else PLATFORMS[platform].fleet)


def _loaded(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)
