"""What is asked of ECS: a service, its tasks, their protection. Typed, paginated, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.aws.client import Aws
from perennial.aws.failures import AwsError, Cause

#: Tasks that one call may describe, tasks that it may protect, and services.
MOST_TASKS, MOST_PROTECTED, MOST_SERVICES = 100, 10, 10
#: Minutes for which a task stays protected: long enough for ECS to choose whom it stops, and short,
#: because a new version replaces no task that is protected.
PROTECTED = 10


@dataclass(frozen=True, slots=True)
class EcsTask:
    """A task, as ECS describes it."""

    arn: str
    #: Where it is in its life, and where it shall be: ``RUNNING`` or ``STOPPED``.
    last: str = "PROVISIONING"
    wanted: str = "RUNNING"
    #: ``HEALTHY``, ``UNHEALTHY`` or ``UNKNOWN``; empty where nothing looks.
    health: str = ""
    #: Family and revision of what it runs.
    definition: str = ""
    created: datetime | None = None
    started: datetime | None = None
    #: Why it was stopped, and what its container said.
    reason: str = ""
    exit_code: int | None = None
    #: What ``aws ssm start-session`` calls its container.
    runtime: str = ""
    zone: str = ""
    spot: bool = False

    @property
    def id(self) -> str:
        """Number of the task: 32 letters."""
        return self.arn.rpartition("/")[2]

    @property
    def is_running(self) -> bool:
        """Whether its container runs and is ready."""
        return self.last == "RUNNING" and self.health != "UNKNOWN"


@dataclass(frozen=True, slots=True)
class EcsService:
    """A service, as ECS describes it."""

    name: str
    desired: int
    running: int
    #: Versions that run; more than one while a new one is rolled out.
    deployments: int
    #: What became of it, in ECS's words, the newest first.
    events: tuple[str, ...] = ()
    definition: str = ""


class Ecs:
    """The services of one cluster of ECS."""

    def __init__(self, aws: Aws, cluster: str) -> None:
        self._aws = aws
        self.cluster = cluster

    @property
    def _client(self) -> Any:
        return self._aws.client("ecs")

    def services(self, names: Sequence[str]) -> dict[str, EcsService]:
        """Look at services by their names; those that are not there are left out."""
        found = {}
        for some in _batches(names, MOST_SERVICES):
            answer = self._aws.call(
                f"look at the services {', '.join(some)}",
                self._client.describe_services,
                cluster=self.cluster,
                services=[*some],
            )
            for each in answer["services"]:
                if each["status"] == "ACTIVE":
                    found[each["serviceName"]] = _service(each)
        return found

    def tasks(self, service: str, wanted: str = "RUNNING") -> list[EcsTask]:
        """List the tasks of a service that shall run, or that shall not, the oldest first."""
        arns = self._aws.pages(
            f"list the tasks of {service}",
            self._client.list_tasks,
            "taskArns",
            cluster=self.cluster,
            serviceName=service,
            desiredStatus=wanted,
        )
        return self.described([*arns])

    def described(self, arns: Sequence[str]) -> list[EcsTask]:
        """Describe tasks; one that ECS lists and cannot describe yet has just been asked for."""
        found = {arn: EcsTask(arn) for arn in arns}
        for some in _batches(arns, MOST_TASKS):
            answer = self._aws.call(
                "describe tasks",
                self._client.describe_tasks,
                cluster=self.cluster,
                tasks=[*some],
            )
            found |= {each["taskArn"]: _task(each) for each in answer["tasks"]}
        return sorted(found.values(), key=_age)

    def protect(self, tasks: Iterable[EcsTask], protected: bool) -> frozenset[str]:
        """Say whether ECS may stop tasks; return the ARNs of those for which that now holds."""
        done: set[str] = set()
        for some in _batches([task.arn for task in tasks], MOST_PROTECTED):
            expires = {"expiresInMinutes": PROTECTED} if protected else {}
            answer = self._aws.call(
                "protect tasks" if protected else "end the protection of tasks",
                self._client.update_task_protection,
                cluster=self.cluster,
                tasks=[*some],
                protectionEnabled=protected,
                **expires,
            )
            done |= {each["taskArn"] for each in answer.get("protectedTasks", ())}
        return frozenset(done)

    def newest(self, family: str) -> str:
        """Return the ARN of the newest version of a task."""
        answer = self._aws.call(
            f"look at the task definition {family}",
            self._client.describe_task_definition,
            taskDefinition=family,
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def resize(self, service: str, size: int) -> None:
        """Give a service a size."""
        self._aws.call(
            f"size the service {service}",
            self._client.update_service,
            cluster=self.cluster,
            service=service,
            desiredCount=size,
        )

    def redeploy(self, service: str) -> None:
        """Have a service replace its tasks."""
        self._aws.call(
            f"restart the service {service}",
            self._client.update_service,
            cluster=self.cluster,
            service=service,
            forceNewDeployment=True,
        )

    def stop(self, task: EcsTask, reason: str) -> None:
        """Stop a task, by SIGTERM; one that has stopped already is well."""
        try:
            self._aws.call(
                f"stop the task {task.id}",
                self._client.stop_task,
                cluster=self.cluster,
                task=task.arn,
                reason=reason,
            )
        except AwsError as error:
            if error.cause is not Cause.MISSING and error.code != "InvalidParameterException":
                raise


def _batches(items: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), most):
        yield items[first : first + most]


def _service(found: Any) -> EcsService:
    return EcsService(
        name=found["serviceName"],
        desired=int(found["desiredCount"]),
        running=int(found["runningCount"]),
        deployments=sum(
            1 for each in found.get("deployments", ()) if each.get("status") != "INACTIVE"
        ),
        events=tuple(_events(found.get("events", ()))),
        definition=found.get("taskDefinition", ""),
    )


def _events(found: Iterable[Any]) -> Iterator[str]:
    for each in sorted(found, key=lambda one: one["createdAt"], reverse=True):
        yield str(each["message"])


def _task(found: Any) -> EcsTask:
    containers = found.get("containers") or [{}]
    why = containers[0].get("reason") or ""
    zone = found.get("availabilityZone") or ""
    return EcsTask(
        arn=found["taskArn"],
        last=found.get("lastStatus", ""),
        wanted=found.get("desiredStatus", ""),
        health=found.get("healthStatus", ""),
        definition=found.get("taskDefinitionArn", "").rpartition("/")[2],
        created=found.get("createdAt"),
        started=found.get("startedAt"),
        reason="; ".join(filter(None, [found.get("stoppedReason"), why])),
        exit_code=containers[0].get("exitCode"),
        runtime=containers[0].get("runtimeId") or "",
        zone=zone,
        spot=found.get("capacityProviderName") == "FARGATE_SPOT",
    )


def _age(task: EcsTask) -> tuple[float, str]:
    """Order tasks: those that ECS cannot describe yet are the newest."""
    return (task.created.timestamp() if task.created else float("inf"), task.arn)
