"""What each role may do, and nothing else. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from perennial.aws.rights import Statement
from perennial.platforms.fargate.options import Options
from perennial.spec import ClusterSpec

#: What SSM needs in a container; it knows no resources.
_SESSIONS = tuple(
    f"ssmmessages:{side}{word}Channel"
    for side in ("Create", "Open")
    for word in ("Control", "Data")
)
_ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?P<suffix>\.cn)?"
    r"/(?P<repository>[^:@]+)([:@].*)?"
)
_PULLS = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


def images(spec: ClusterSpec, role: str) -> tuple[str, ...]:
    """List the images of the tasks of a role."""
    options: Options = spec.options
    keys = tuple(spec.workers) if role == "worker" else (role,)
    return tuple(dict.fromkeys(str(options.task(key).image) for key in keys))


def execution(
    spec: ClusterSpec, role: str, log_group: str, secret: str | None
) -> tuple[Statement, ...]:
    """List what ECS may do to start a container: pull its image, read its secret, write its log."""
    found = [
        *_pulls(images(spec, role)),
        Statement(("logs:CreateLogStream", "logs:PutLogEvents"), (f"{log_group}:*",)),
    ]
    if secret is not None:
        found.append(Statement(("secretsmanager:GetSecretValue",), (secret,)))
    return tuple(found)


def task(spec: ClusterSpec, role: str, cluster: str, file_system: str) -> tuple[Statement, ...]:
    """List what the processes of a task may do: those of a worker nothing."""
    if role == "scaler":
        return tuple(_scaler(spec, cluster))
    found = []
    if spec.options.exec and role in ("scheduler", "jupyter"):
        found.append(Statement(_SESSIONS, ("*",)))
    if role == "jupyter" and file_system:
        mounts = ("elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite")
        found.append(Statement(mounts, (file_system,)))
    return tuple(found)


def _scaler(spec: ClusterSpec, cluster: str) -> Iterator[Statement]:
    """List what sizes groups: to look at each, and to change those that are scaled."""
    every = tuple(_within(cluster, "service", group) for group in spec.workers)
    scaled = tuple(_within(cluster, "service", group) for group in spec.scaled)
    here = {"ArnEquals": {"ecs:cluster": cluster}}
    yield Statement(("ecs:DescribeServices",), every)
    yield Statement(("ecs:UpdateService",), scaled)
    # A list of tasks is of no resource of its own, but of a cluster.
    yield Statement(("ecs:ListTasks",), ("*",), here)
    tasks = ("ecs:DescribeTasks", "ecs:StopTask", "ecs:UpdateTaskProtection")
    yield Statement(tasks, (_within(cluster, "task", "*"),))


def _within(cluster: str, kind: str, name: str) -> str:
    """Name what is in a cluster of ECS."""
    return f"{cluster.replace(':cluster/', f':{kind}/')}/{name}"


def _pulls(images: Iterable[str]) -> Iterator[Statement]:
    """Let images of ECR be pulled; other registries ask for no right."""
    found = [match for match in map(_ECR.fullmatch, images) if match]
    if found:
        yield Statement(("ecr:GetAuthorizationToken",), ("*",))
        arns = {
            f"arn:aws{'-cn' if each['suffix'] else ''}:ecr:{each['region']}:{each['account']}"
            f":repository/{each['repository']}"
            for each in found
        }
        yield Statement(_PULLS, tuple(sorted(arns)))
