"""The internal load balancer of a cluster on Fargate: it passes TLS through to the services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2, ecs, lb

from perennial.aws import names

from .aws import Account
from .aws_network import Opening, PlacedNetwork, clients, open_to, security_group


@dataclass(frozen=True, slots=True)
class Balancer:
    """A load balancer, and where it leads."""

    host: pulumi.Output[str]
    #: The target group and the port of each role.
    targets: Mapping[str, tuple[lb.TargetGroup, pulumi.Input[int]]]
    #: What has to be there before a service is found by it.
    listeners: Sequence[pulumi.Resource]

    def served(self, role: str) -> Sequence[ecs.ServiceLoadBalancerArgs]:
        """Return how a service of ECS is found by it."""
        if role not in self.targets:
            return ()
        group, port = self.targets[role]
        return (
            ecs.ServiceLoadBalancerArgs(
                target_group_arn=group.arn, container_name=role, container_port=port
            ),
        )


def balancer(
    account: Account, where: PlacedNetwork, groups: Mapping[str, ec2.SecurityGroup]
) -> Balancer:
    """Register it, with a port for the scheduler and one for JupyterLab."""
    spec = account.spec
    roles = ("scheduler", *(("jupyter",) if spec.jupyter is not None else ()))
    ports = {role: account.at(f"{role}.port") for role in roles}
    own = security_group(account, "balancer", where)
    for role, port in ports.items():
        open_to(account, "balancer", own, clients(account, role))
        open_to(account, role, groups[role], [Opening("balancer", port, port, own.id)])
    made = lb.LoadBalancer(
        account.title("balancer"),
        name=names.name_of(spec.name, "lb", names.LOAD_BALANCER),
        internal=True,
        load_balancer_type="network",
        enable_cross_zone_load_balancing=True,
        subnets=where.every_subnet,
        security_groups=[own.id],
        tags=account.tags("balancer"),
        opts=account.options(),
    )
    targets, listeners = {}, []
    for role, port in ports.items():
        group = lb.TargetGroup(
            account.title(f"{role}-targets"),
            name=names.name_of(spec.name, role, names.LOAD_BALANCER),
            port=port,
            protocol="TCP",
            target_type="ip",
            vpc_id=where.vpc,
            # Connections of clients stay for days; those to a task that has gone do not.
            deregistration_delay=0,
            health_check=lb.TargetGroupHealthCheckArgs(protocol="TCP", interval=10),
            tags=account.tags(role),
            opts=account.options(),
        )
        listener = lb.Listener(
            account.title(f"{role}-listener"),
            load_balancer_arn=made.arn,
            port=port,
            protocol="TCP",
            default_actions=[
                lb.ListenerDefaultActionArgs(type="forward", target_group_arn=group.arn)
            ],
            tags=account.tags(role),
            opts=account.options(),
        )
        targets[role] = (group, port)
        listeners.append(listener)
    return Balancer(made.dns_name, targets, listeners)
