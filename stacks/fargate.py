"""A cluster on Fargate: services of ECS, and what they need, as resources of pulumi-aws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_aws import ecs

from perennial.aws import names
from perennial.fleet import written
from perennial.platforms.fargate import parts, tasks
from perennial.platforms.fargate.alarms import rules
from perennial.platforms.fargate.parts import Part
from perennial.services import scheduler_address
from perennial.spec import ClusterSpec

from .args import (
    AwsAlarmsArgs,
    AwsLogsArgs,
    AwsNetworkArgs,
    AwsNotebooksArgs,
    EnvironmentArgs,
    FargateClusterArgs,
    FargateGroupArgs,
    FargateOptionsArgs,
    FargateTaskArgs,
    JupyterArgs,
    ScaleArgs,
    SchedulerArgs,
    WorkerGroupArgs,
)
from .aws import PLUGINS, Account, gathered, whole
from .aws_alarms import alarms
from .aws_network import with_given
from .base import ClusterComponent, outputs_of
from .fargate_ground import Ground, below, ground
from .fargate_planning import described, first, stop_scheduler
from .inputs import Inputs
from .resources import Authority

__all__ = [
    "PLUGINS",
    "AwsAlarmsArgs",
    "AwsLogsArgs",
    "AwsNetworkArgs",
    "AwsNotebooksArgs",
    "Cluster",
    "EnvironmentArgs",
    "FargateCluster",
    "FargateClusterArgs",
    "FargateGroupArgs",
    "FargateOptionsArgs",
    "FargateTaskArgs",
    "JupyterArgs",
    "ScaleArgs",
    "SchedulerArgs",
    "WorkerGroupArgs",
    "described",
    "first",
    "stop_scheduler",
]

#: Time until the tasks of a service run, and until all of a group are replaced, drained.
_STEADY = pulumi.CustomTimeouts(create="30m", update="2h", delete="30m")


class FargateCluster(ClusterComponent):
    """A scheduler, worker groups, Jupyter and the scaler as services of ECS on Fargate.

    Its children are ``<name>-<role>-role``, ``<name>-<role>-secret``, ``<name>-<part>-task``,
    ``<name>-<part>-service`` and the network, as ``<name>-vpc`` and ``<name>-private-a``. A
    provider of pulumi-aws in the options reaches all of them.

    Parameters
    ----------
    name : str
        Name of the component.
    args : FargateClusterArgs, mapping or ClusterSpec
        The keys of a cluster file. Names, groups, counts, the region and whether the network is
        made are known when the program runs; any other value may be an Output, such as the image,
        the VPC or its subnets.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Without meaning here: ECS says what there is room for.

    Raises
    ------
    pulumi.RunError
        Where the arguments are no valid cluster file; one line for each fault.
    """

    platform = "fargate"
    component_type = "perennial:index:FargateCluster"

    def deploy(self, name: str, given: Inputs, force: bool) -> dict[str, Any]:
        """Register the network, the secrets, the roles, and a service of ECS for each part."""
        account = Account(self, name, given)
        every = parts.parts(given.spec)
        authority = account.authority()
        standing = ground(account, authority, every)
        tasks_of = {part.key: _task(account, standing, part) for part in every}
        services: dict[str, ecs.Service] = {}
        for part in every:
            after = [services["scheduler"]] if part.service.role != "scheduler" else []
            services[part.key] = _service(account, standing, part, tasks_of[part.key], after)
        alarms(account, rules(given.spec), services, standing.logs)
        return _outputs(account, authority, standing)


def _task(account: Account, standing: Ground, part: Part) -> ecs.TaskDefinition:
    """Register the task definition of a part, in roles that know nothing of other parts."""
    key, role = part.key, part.service.role
    secret = standing.secrets.get(role)
    read = (
        ""
        if secret is None
        else pulumi.Output.concat(secret.secret.arn, ":::", secret.version.version_id)
    )
    own = standing.roles[role]
    disk = part.task.ephemeral_storage
    sizes = (f"{below(part)}.cpu", f"{below(part)}.memory", f"workers.{key}", f"{key}.memory")
    return ecs.TaskDefinition(
        account.title(f"{key}-task"),
        family=names.name_of(account.spec.name, key),
        requires_compatibilities=["FARGATE"],
        network_mode="awsvpc",
        cpu=account.value(lambda spec: str(spec.options.size(spec, key).cpu), *sizes),
        memory=account.value(lambda spec: str(spec.options.size(spec, key).memory), *sizes),
        runtime_platform=ecs.TaskDefinitionRuntimePlatformArgs(
            operating_system_family="LINUX",
            cpu_architecture=account.value(
                lambda spec: spec.options.architecture.upper(), "options.architecture"
            ),
        ),
        execution_role_arn=own.execution.arn,
        task_role_arn=own.task.arn,
        container_definitions=gathered(
            _containers(key), spec=account.value(whole, *_contained(account, part)), secret=read
        ),
        ephemeral_storage=(
            ecs.TaskDefinitionEphemeralStorageArgs(size_in_gib=disk) if disk else None
        ),
        volumes=_volumes(standing) if role == "jupyter" else [],
        tags=account.tags(key, part.service.group),
        # The one that runs stays until the service runs the next.
        opts=account.options(renewed=True),
    )


def _contained(account: Account, part: Part) -> Sequence[str]:
    """List the keys of the cluster file that the container of a part is made of."""
    own = (f"options.{each}" for each in ("image", "user", "exec", "network.domain", "notebooks"))
    return (*account.common, f"{below(part)}.image", *own)


def _containers(key: str) -> Any:
    """Return what writes the containers of a part, once all values are known."""

    def written(spec: ClusterSpec, secret: str) -> str:
        part = next(each for each in parts.parts(spec) if each.key == key)
        made = tasks.task_definition(spec, part, tasks.References("", "", secret))
        return json.dumps(made["containerDefinitions"], sort_keys=True)

    return written


def _volumes(standing: Ground) -> list[ecs.TaskDefinitionVolumeArgs]:
    system = standing.notebooks
    if system is None:
        return []
    config = ecs.TaskDefinitionVolumeEfsVolumeConfigurationArgs(
        file_system_id=system.id,
        transit_encryption="ENABLED",
        authorization_config=ecs.TaskDefinitionVolumeEfsVolumeConfigurationAuthorizationConfigArgs(
            access_point_id=system.access_point, iam="ENABLED"
        ),
    )
    made = ecs.TaskDefinitionVolumeArgs(name=tasks.NOTEBOOKS, efs_volume_configuration=config)
    return [made]


def _service(
    account: Account,
    standing: Ground,
    part: Part,
    task: ecs.TaskDefinition,
    after: Sequence[pulumi.Resource],
) -> ecs.Service:
    """Register the service of a part; the size of a group that is scaled is the scaler's."""
    spec, key, role = account.spec, part.key, part.service.role
    rolled = tasks.rollout(spec, part)
    registry = standing.registries.get(role)
    served = standing.balancer.served(role) if standing.balancer else ()
    mounted = standing.notebooks.targets if standing.notebooks and role == "jupyter" else ()
    scaled = parts.is_scaled(spec, part)
    return ecs.Service(
        account.title(f"{key}-service"),
        name=key,
        cluster=standing.cluster.arn,
        task_definition=task.arn,
        desired_count=parts.count(spec, part),
        capacity_provider_strategies=[
            ecs.ServiceCapacityProviderStrategyArgs(
                capacity_provider=each["capacityProvider"],
                base=each["base"],
                weight=each["weight"],
            )
            for each in tasks.capacity(spec, part)
        ],
        platform_version=account.at("options.platform_version"),
        # It would stop members that nobody has drained, to have as many in each zone.
        availability_zone_rebalancing="DISABLED",
        deployment_minimum_healthy_percent=rolled.minimum,
        deployment_maximum_percent=rolled.maximum,
        deployment_circuit_breaker=ecs.ServiceDeploymentCircuitBreakerArgs(
            enable=True, rollback=True
        ),
        enable_execute_command=tasks.reaches(spec, part),
        enable_ecs_managed_tags=True,
        propagate_tags="SERVICE",
        network_configuration=ecs.ServiceNetworkConfigurationArgs(
            subnets=standing.where.every_subnet,
            security_groups=with_given(account, standing.groups[role]),
            assign_public_ip=False,
        ),
        service_registries=(
            ecs.ServiceServiceRegistriesArgs(registry_arn=registry.arn) if registry else None
        ),
        load_balancers=served or None,
        wait_for_steady_state=True,
        tags=account.tags(key, part.service.group),
        opts=account.options(
            *standing.ready,
            *account.needed,
            *mounted,
            *after,
            ignore_changes=["desiredCount"] if scaled else [],
            custom_timeouts=_STEADY,
        ),
    )


def _outputs(account: Account, authority: Authority, standing: Ground) -> dict[str, Any]:
    spec = account.spec

    def told(spec: ClusterSpec, balanced: str | None) -> dict[str, Any]:
        inside = scheduler_address(spec, parts.site(spec))
        jupyter = parts.jupyter_url(spec)
        if balanced:
            inside = inside.replace(parts.host(spec, "scheduler"), balanced)
            jupyter = jupyter and jupyter.replace(parts.host(spec, "jupyter"), balanced)
        return {
            "scheduler_address": inside,
            "jupyter_url": jupyter,
            # Only through a forwarded port.
            "dashboard_url": None,
            "fleets": written(parts.fleets(spec)),
        }

    host = standing.balancer.host if standing.balancer else None
    read = account.value(whole, *account.common, "options.network.domain")
    found = gathered(told, spec=read, balanced=host)
    return outputs_of(spec, found, authority, found["scheduler_address"])


#: What the registry of stacks looks for.
Cluster = FargateCluster
