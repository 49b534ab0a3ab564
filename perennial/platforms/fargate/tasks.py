"""From a service to the task that runs it, as ECS takes it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from perennial.aws import names
from perennial.errors import PerennialError
from perennial.jupyter import notebook_directory
from perennial.pages import socket_of
from perennial.platforms.fargate import start
from perennial.platforms.fargate.options import STOP
from perennial.platforms.fargate.parts import (
    KEYS,
    READY,
    RUN,
    STATE,
    Part,
    count,
    options_of,
    site,
)
from perennial.quoting import check_filled
from perennial.services import START_TIMEOUT
from perennial.spec import ClusterSpec

Tree = dict[str, Any]

#: Bytes of a task definition that ECS takes.
LONGEST = 65_536
#: Bytes of log lines that wait for CloudWatch; more are dropped, and Dask never waits.
LOG_BUFFER = "8m"
#: Seconds between two looks at a container, and the longest time of grace that ECS allows.
LOOK, GRACE = 15, 300
#: Name of the volume with the notebooks.
NOTEBOOKS = "notebooks"


@dataclass(frozen=True, slots=True)
class References:
    """What AWS calls what a task definition refers to."""

    execution_role: str
    task_role: str
    #: ARN of the secret, with the version that is read.
    secret: str
    file_system: str = ""
    access_point: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How ECS replaces the tasks of a service."""

    #: Per cent of its size that must stay, and that may be there at a time.
    minimum: int
    maximum: int


def task_definition(spec: ClusterSpec, part: Part, refers: References) -> Tree:
    """Describe a task, as ``aws ecs register-task-definition --cli-input-json`` takes it."""
    disk = part.task.ephemeral_storage
    made: Tree = {
        "family": names.name_of(spec.name, part.key),
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": str(part.size.cpu),
        "memory": str(part.size.memory),
        "runtimePlatform": {
            "operatingSystemFamily": "LINUX",
            "cpuArchitecture": spec.options.architecture.upper(),
        },
        "executionRoleArn": refers.execution_role,
        "taskRoleArn": refers.task_role,
        "containerDefinitions": [container(spec, part, refers.secret)],
        "volumes": volumes(part, refers),
        **({"ephemeralStorage": {"sizeInGiB": disk}} if disk else {}),
    }
    size = len(json.dumps(made))
    if size > LONGEST:
        raise PerennialError(
            f"{part.key}: its task definition has {size} bytes; allowed: {LONGEST}; shorten `dask`"
            " and `env` of the cluster file, or put files into the image"
        )
    return made


def container(spec: ClusterSpec, part: Part, secret: str) -> Tree:
    """Describe the one container of a task."""
    service, options = part.service, options_of(spec)
    for file in service.files:
        check_filled(file.text, file.path)
    reached = reaches(spec, part)
    limits: Tree = {"initProcessEnabled": True}
    if not reached:  # what SSM starts there is root's
        limits["capabilities"] = {"drop": ["ALL"]}
    return {
        "name": service.role,
        "image": part.task.image,
        "essential": True,
        "entryPoint": [service.command.argv[0], "-P", "-m", start.__name__],
        "command": list(service.command.argv),
        "user": f"{options.user}:{options.user}",
        "environment": [{"name": start.SERVICE, "value": _told(spec, part)}],
        "secrets": [{"name": start.SECRETS, "valueFrom": secret}] if part.secrets else [],
        "portMappings": [
            {"containerPort": port, "protocol": "tcp"} for port in _served(spec, part)
        ],
        "healthCheck": _health(spec, part),
        "stopTimeout": min(STOP, int(service.lifecycle.stop_timeout)),
        "linuxParameters": limits,
        "ulimits": [
            {
                "name": "nofile",
                "softLimit": service.limits.open_files,
                "hardLimit": service.limits.open_files,
            }
        ],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": names.log_group(spec.name),
                "awslogs-region": options.region,
                "awslogs-stream-prefix": part.key,
                "mode": "non-blocking",
                "max-buffer-size": LOG_BUFFER,
            },
        },
        "mountPoints": [
            {"sourceVolume": NOTEBOOKS, "containerPath": path, "readOnly": False}
            for path in _mounts(spec, part)
        ],
    }


def volumes(part: Part, refers: References) -> list[Tree]:
    """Describe the file system of the notebooks; none for any other part."""
    if part.service.role != "jupyter" or not refers.file_system:
        return []
    made: Tree = {"fileSystemId": refers.file_system, "transitEncryption": "ENABLED"}
    if refers.access_point:
        made["authorizationConfig"] = {"accessPointId": refers.access_point, "iam": "ENABLED"}
    return [{"name": NOTEBOOKS, "efsVolumeConfiguration": made}]


def capacity(spec: ClusterSpec, part: Part) -> list[Tree]:
    """Divide the tasks of a part between what AWS may take back and what it may not."""
    if part.service.group is None:
        return [{"capacityProvider": "FARGATE", "base": 0, "weight": 1}]
    own = options_of(spec).group(part.key)
    shares = [("FARGATE", own.base, own.on_demand), ("FARGATE_SPOT", 0, own.spot)]
    return [
        {"capacityProvider": name, "base": base, "weight": weight}
        for name, base, weight in shares
        if base or weight
    ]


def rollout(spec: ClusterSpec, part: Part) -> Rollout:
    """Say how a part is replaced: a group rolls, and there are never two of anything else."""
    if part.service.group is None:
        return Rollout(0, 100)
    own = options_of(spec).group(part.key)
    return Rollout(own.healthy, 100 + own.surge)


def reaches(spec: ClusterSpec, part: Part) -> bool:
    """Whether SSM reaches a part: never a worker, where tasks are anybody's code."""
    return options_of(spec).exec and part.service.role in ("scheduler", "jupyter")


def service_definition(spec: ClusterSpec, part: Part, cluster: str) -> Tree:
    """Describe a service, as ``aws ecs create-service --cli-input-json`` takes it.

    Where it stands (``networkConfiguration``) and its name (``serviceRegistries``) are to be added.
    """
    rolled = rollout(spec, part)
    return {
        "cluster": cluster,
        "serviceName": part.key,
        "taskDefinition": names.name_of(spec.name, part.key),
        "desiredCount": count(spec, part),
        "capacityProviderStrategy": capacity(spec, part),
        "platformVersion": spec.options.platform_version,
        "schedulingStrategy": "REPLICA",
        # It would stop members that nobody has drained, to have as many in each zone.
        "availabilityZoneRebalancing": "DISABLED",
        "deploymentConfiguration": {
            "minimumHealthyPercent": rolled.minimum,
            "maximumPercent": rolled.maximum,
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        },
        "enableExecuteCommand": reaches(spec, part),
        "enableECSManagedTags": True,
        "propagateTags": "SERVICE",
        "tags": [
            {"key": key, "value": value}
            for key, value in names.tags(
                spec.name, part.key, spec.options.tags, part.service.group
            ).items()
        ],
    }


def _told(spec: ClusterSpec, part: Part) -> str:
    """Write what the start of a container has to prepare; no secret is in it."""
    service = part.service
    own = dict(service.command.environment)
    group = spec.workers[service.group].env if service.group else {}
    if spec.environment.python is None and "PATH" not in {**spec.env, **group}:
        own.pop("PATH", None)  # the image knows where its programs are
    where = site(spec)
    home = where.home if service.role == "jupyter" else where.scratch
    ready = {"PERENNIAL_READY": READY} if service.role in ("scheduler", "worker") else {}
    folders = [STATE, KEYS, RUN, where.config, where.tls, where.secrets, home]
    told = {
        "directory": service.command.directory,
        "folders": sorted({*folders, *service.access.writes}),
        "files": {file.path: file.text for file in service.files},
        "secrets": dict(zip(part.secrets, service.access.secrets, strict=True)),
        "environment": {"HOME": home, **ready, **own},
    }
    return json.dumps(told, ensure_ascii=False, sort_keys=True)


def _served(spec: ClusterSpec, part: Part) -> list[int]:
    """List the ports that are reached from outside the task."""
    served = {"scheduler": [spec.scheduler.port]}
    if spec.jupyter is not None:
        served["jupyter"] = [spec.jupyter.port]
    return served.get(part.service.role, [])


def _health(spec: ClusterSpec, part: Part) -> Tree:
    """Say how ECS looks at a container; nothing here can end a worker that is busy."""
    service = part.service
    where = {
        "scheduler": socket_of(f"{RUN}/pages"),
        "worker": READY,
        "jupyter": f"https:{spec.jupyter.port}" if spec.jupyter else "",
        "scaler": f"127.0.0.1:{spec.scaler.port}" if spec.scaler else "",
    }[service.role]
    module = "perennial.platforms.fargate.health"
    patient = max(2, round((service.lifecycle.watchdog or 60.0) / LOOK))
    return {
        "command": ["CMD", service.command.argv[0], "-P", "-m", module, where],
        "interval": LOOK,
        "timeout": LOOK,
        "retries": min(10, patient),
        "startPeriod": min(GRACE, int(START_TIMEOUT)),
    }


def _mounts(spec: ClusterSpec, part: Part) -> list[str]:
    if part.service.role != "jupyter" or spec.options.notebooks is None or spec.jupyter is None:
        return []
    return [notebook_directory(spec.jupyter, site(spec))]
