"""What the services of a cluster on Fargate stand on: network, secrets, roles, names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import cloudwatch, ec2, ecs, iam, servicediscovery

from perennial.platforms.fargate import parts, rights
from perennial.platforms.fargate.costs import ENDPOINTS
from perennial.platforms.fargate.parts import Part

from .aws import Account, FileSystem, Grants, SecretFiles, gathered, whole
from .aws_network import (
    Opening,
    PlacedNetwork,
    clients,
    members,
    network,
    open_to,
    security_group,
)
from .fargate_balancer import Balancer, balancer
from .resources import Authority

#: Seconds for which others may remember the address of a scheduler that has been replaced.
TTL = 10
#: Services that have a name in the domain.
NAMED = ("scheduler", "jupyter")


@dataclass(frozen=True, slots=True)
class TaskRoles:
    """The two roles of the tasks of a role of Dask's."""

    #: What ECS may do to start them.
    execution: iam.Role
    #: What their processes may do.
    task: iam.Role


@dataclass(frozen=True, slots=True)
class Ground:
    """What the services of a cluster stand on."""

    cluster: ecs.Cluster
    where: PlacedNetwork
    groups: dict[str, ec2.SecurityGroup]
    logs: cloudwatch.LogGroup
    secrets: dict[str, SecretFiles]
    roles: dict[str, TaskRoles]
    registries: dict[str, servicediscovery.Service]
    notebooks: FileSystem | None
    balancer: Balancer | None
    #: What has to be there before a service is made.
    ready: tuple[pulumi.Resource, ...]


def below(part: Part) -> str:
    """Return the key of the cluster file below which the tasks of a part are described."""
    return f"options.workers.{part.key}" if part.service.group else f"options.{part.key}"


def ground(account: Account, authority: Authority, every: Sequence[Part]) -> Ground:
    """Register what the services stand on."""
    spec = account.spec
    where = network(account, ENDPOINTS)
    roles: tuple[str, ...] = tuple(dict.fromkeys(part.service.role for part in every))
    groups = {role: security_group(account, role, where) for role in roles}
    cluster = ecs.Cluster(
        account.title("cluster"),
        name=parts.ecs_cluster(spec.name),
        tags=account.tags("cluster"),
        opts=account.options(),
    )
    capacity = ecs.ClusterCapacityProviders(
        account.title("capacity"),
        cluster_name=cluster.name,
        capacity_providers=["FARGATE", "FARGATE_SPOT"],
        opts=account.options(),
    )
    for role, openings in _openings(account, groups):
        open_to(account, role, groups[role], openings)
    logs = account.log_group()
    secrets = dict(_secrets(account, authority, every))
    notebooks = _notebooks(account, where, groups)
    balanced = balancer(account, where, groups) if spec.options.load_balancer else None
    return Ground(
        cluster=cluster,
        where=where,
        groups=groups,
        logs=logs,
        secrets=secrets,
        roles={
            role: _roles(account, role, cluster, logs, secrets.get(role), notebooks)
            for role in roles
        },
        registries=_registries(account, where, roles),
        notebooks=notebooks,
        balancer=balanced,
        ready=(*where.ready, capacity, logs, *(balanced.listeners if balanced else ())),
    )


def _openings(
    account: Account, groups: dict[str, ec2.SecurityGroup]
) -> Iterator[tuple[str, list[Opening]]]:
    """Say who reaches which ports: each role its own, and nobody from the internet."""
    spec = account.spec
    port = account.at("scheduler.port")
    inside = [role for role in groups if role != "scheduler"]
    from_roles = [Opening(role, port, port, groups[role].id) for role in inside]
    yield "scheduler", [*from_roles, *clients(account, "scheduler")]
    asking = [role for role in ("scheduler", "worker", "jupyter") if role in groups]
    yield "worker", members(account, parts.ports_of, {role: groups[role] for role in asking})
    if spec.jupyter is not None:
        yield "jupyter", [*clients(account, "jupyter")]


def _secrets(
    account: Account, authority: Authority, every: Sequence[Part]
) -> Iterator[tuple[str, SecretFiles]]:
    """Register the certificates, and a secret for each role, with what that role reads."""
    files = {
        "ca.pem": authority.ca,
        "client.pem": authority.client,
        "client-key.pem": authority.client_key,
        "jupyter-token": authority.token,
    }
    wanted = {part.service.role: part.secrets for part in every if part.secrets}
    for role in ("scheduler", "worker", "jupyter"):
        if any(f"{role}.pem" in each for each in wanted.values()):
            reached = _reached_by(role)
            made = account.certificate(authority, role, reached)
            files |= {f"{role}.pem": made.cert, f"{role}-key.pem": made.key}
    for role, own in wanted.items():
        yield role, account.secret(role, {name: files[name] for name in own})


def _reached_by(role: str) -> Any:
    return lambda spec: parts.reached_by(spec, role)


def _registries(
    account: Account, where: PlacedNetwork, roles: Sequence[str]
) -> dict[str, servicediscovery.Service]:
    """Register the private domain, and in it a name for each service that others look for."""
    domain = servicediscovery.PrivateDnsNamespace(
        account.title("domain"),
        name=account.value(lambda spec: parts.host(spec, "").lstrip("."), "options.network.domain"),
        description=f"names of the Dask cluster {account.spec.name}",
        vpc=where.vpc,
        tags=account.tags("domain"),
        opts=account.options(),
    )
    record = servicediscovery.ServiceDnsConfigDnsRecordArgs(ttl=TTL, type="A")
    config = servicediscovery.ServiceDnsConfigArgs(
        namespace_id=domain.id, dns_records=[record], routing_policy="MULTIVALUE"
    )
    return {
        role: servicediscovery.Service(
            account.title(f"{role}-name"),
            name=role,
            dns_config=config,
            # ECS says itself which task is well.
            health_check_custom_config=servicediscovery.ServiceHealthCheckCustomConfigArgs(),
            force_destroy=True,
            tags=account.tags(role),
            opts=account.options(),
        )
        for role in NAMED
        if role in roles
    }


def _notebooks(
    account: Account, where: PlacedNetwork, groups: dict[str, ec2.SecurityGroup]
) -> FileSystem | None:
    options = account.spec.options
    if options.notebooks is None or account.spec.jupyter is None:
        return None
    if options.notebooks.file_system is not None:
        return account.notebooks((), "", options.user)
    group = security_group(account, "notebooks", where)
    open_to(account, "notebooks", group, [Opening("jupyter", 2049, 2049, groups["jupyter"].id)])
    return account.notebooks(where.subnets, group.id, options.user)


def _roles(
    account: Account,
    role: str,
    cluster: ecs.Cluster,
    logs: cloudwatch.LogGroup,
    secret: SecretFiles | None,
    notebooks: FileSystem | None,
) -> TaskRoles:
    """Register the two roles of the tasks of a role of Dask's, which know nothing of others."""
    tasks = [f"workers.{group}" for group in account.spec.workers] if role == "worker" else [role]
    images = ("options.image", *(f"options.{each}.image" for each in tasks))
    to_start = gathered(
        rights.execution,
        spec=account.value(whole, *images),
        role=role,
        log_group=logs.arn,
        secret=secret.secret.arn if secret else None,
    )
    once_started = gathered(
        rights.task,
        spec=account.value(whole, "options.exec"),
        role=role,
        cluster=cluster.arn,
        file_system=notebooks.arn if notebooks else "",
    )
    named = pulumi.Output.from_input(account.at("options.policies"))
    count = len(account.spec.options.policies) if role in ("worker", "jupyter") else 0
    policies = [named[place] for place in range(count)]
    # Whether there is any statement is known without names.
    known = rights.task(account.spec, role, "", "known" if notebooks else "")
    return TaskRoles(
        account.role(f"{role}-execution", "ecs-tasks", Grants(to_start)),
        account.role(role, "ecs-tasks", Grants(once_started if known else None, policies)),
    )
