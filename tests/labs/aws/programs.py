"""Programs of Pulumi that the stand-in is tried with."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[3] / "examples" / "pulumi"
TAGS = {"perennial:cluster": "lab"}
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)


def example(name: str, **values: str) -> None:
    """Run an example of `examples/pulumi`, with these values of its configuration."""
    import pulumi

    for key, value in values.items():
        pulumi.runtime.set_config(f"{pulumi.get_project()}:{key}", value)
    runpy.run_path(str(EXAMPLES / name / "__main__.py"), run_name="__main__")


def network(cidr: str = "10.0.0.0/16", **tags: str) -> Any:
    import pulumi_aws as aws

    own = {**TAGS, **tags}
    vpc = aws.ec2.Vpc("vpc", cidr_block=cidr, enable_dns_hostnames=True, tags=own)
    subnet = aws.ec2.Subnet(
        "subnet", vpc_id=vpc.id, cidr_block="10.0.0.0/24", availability_zone="eu-central-1a"
    )
    group = aws.ec2.SecurityGroup("group", vpc_id=vpc.id, description="scheduler", tags=own)
    aws.vpc.SecurityGroupIngressRule(
        "rule",
        security_group_id=group.id,
        cidr_ipv4="10.0.0.0/16",
        ip_protocol="tcp",
        from_port=8786,
        to_port=8786,
        tags=own,
    )
    return vpc, subnet, group


def containers(count: int = 1, image: str = "dask") -> None:
    import pulumi
    import pulumi_aws as aws

    vpc, subnet, group = network()
    logs = aws.cloudwatch.LogGroup("logs", name="/perennial/lab", retention_in_days=30, tags=TAGS)
    role = aws.iam.Role("role", assume_role_policy=TRUST, tags=TAGS)
    secret = aws.secretsmanager.Secret("secret", recovery_window_in_days=0, tags=TAGS)
    aws.secretsmanager.SecretVersion(
        "version", secret_id=secret.id, secret_string=pulumi.Output.secret("hidden-from-state")
    )
    aws.iam.RolePolicy("policy", role=role.id, policy=secret.arn.apply(reading))
    cluster = aws.ecs.Cluster("cluster", name="lab", tags=TAGS)
    aws.ecs.ClusterCapacityProviders(
        "capacity", cluster_name=cluster.name, capacity_providers=["FARGATE", "FARGATE_SPOT"]
    )
    space = aws.servicediscovery.PrivateDnsNamespace("space", name="lab.perennial", vpc=vpc.id)
    name = aws.servicediscovery.Service(
        "name",
        name="scheduler",
        dns_config={
            "namespace_id": space.id,
            "dns_records": [{"ttl": 10, "type": "A"}],
        },
        tags=TAGS,
    )
    container = {"name": "scheduler", "image": image, "essential": True, "stopTimeout": 120}
    task = aws.ecs.TaskDefinition(
        "task",
        family="lab-scheduler",
        cpu="1024",
        memory="4096",
        network_mode="awsvpc",
        requires_compatibilities=["FARGATE"],
        execution_role_arn=role.arn,
        container_definitions=logs.name.apply(lambda _: json.dumps([container])),
        tags=TAGS,
    )
    service = aws.ecs.Service(
        "service",
        name="scheduler",
        cluster=cluster.arn,
        task_definition=task.arn,
        desired_count=count,
        deployment_maximum_percent=100,
        deployment_minimum_healthy_percent=0,
        deployment_circuit_breaker={"enable": True, "rollback": True},
        capacity_provider_strategies=[{"capacity_provider": "FARGATE", "weight": 1, "base": 1}],
        network_configuration={"subnets": [subnet.id], "security_groups": [group.id]},
        service_registries={"registry_arn": name.arn},
        propagate_tags="SERVICE",
        tags=TAGS,
    )
    pulumi.export("service", service.arn)


def reading(arn: str) -> str:
    allowed = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]})


def raw(resources: dict[str, list[Any]]) -> None:
    """Resources by name, each a type and its inputs, which no class has looked at."""
    import pulumi

    for name, (token, inputs) in resources.items():
        pulumi.CustomResource(token, name, inputs)
