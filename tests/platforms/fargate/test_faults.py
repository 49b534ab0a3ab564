"""The fleet on an ECS that throttles, fails, loses answers and reads what is out of date.

The client of botocore is replaced by one in memory; all of ours stands above it. Its scheduler
stops whichever unprotected task it likes. Whatever happens, no member that runs and was not named
may be told to stop, and the size stays between the bounds that were asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from perennial.aws.client import Aws
from perennial.errors import FleetError
from perennial.platforms.fargate.ecs import PROTECTED, Ecs
from perennial.platforms.fargate.fleet import FargateFleet

LEAST, MOST = 1, 8
STEPS = 60


class Cloud:
    """One service of ECS."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.desired = 4
        self.born = 0
        #: Tasks by ARN: where they are, and until when they are protected.
        self.tasks: dict[str, dict[str, Any]] = {}
        self.stopped_by_name: set[str] = set()
        #: How it was of late.
        self.past: list[Any] = []

    def snapshot(self) -> Any:
        return copy.deepcopy((self.desired, self.tasks))

    def live(self) -> list[str]:
        return [arn for arn, task in self.tasks.items() if task["desiredStatus"] == "RUNNING"]

    def reconcile(self) -> Iterator[str]:
        """Bring the tasks nearer to the size; name whoever is told to stop."""
        self.past = [*self.past[-3:], self.snapshot()]
        self.now += self.random.uniform(1, 60)
        # Who starts while ECS chooses has not run for anybody: it is an ask that is given up.
        ran = {arn for arn, task in self.tasks.items() if task["lastStatus"] == "RUNNING"}
        for task in self.tasks.values():
            if task["lastStatus"] == "PENDING" and self.random.random() < 0.6:
                task["lastStatus"] = "RUNNING"
        free = [arn for arn in self.live() if self.tasks[arn]["until"] < self.now]
        self.random.shuffle(free)
        for arn in free[: max(0, len(self.live()) - self.desired)]:
            self.tasks[arn].update(desiredStatus="STOPPED", lastStatus="STOPPED")
            if arn in ran:
                yield arn
        for _ in range(self.desired - len(self.live())):
            self.born += 1
            arn = f"arn:aws:ecs:r:1:task/lab/{self.born:032x}"
            self.tasks[arn] = {
                "taskArn": arn,
                "lastStatus": "PENDING",
                "desiredStatus": "RUNNING",
                "until": -1.0,
            }

    # What is called of botocore's client

    def describe_services(self, **_: Any) -> Any:
        desired, tasks = self.desired, self.tasks
        live = [task for task in tasks.values() if task["desiredStatus"] == "RUNNING"]
        running = sum(task["lastStatus"] == "RUNNING" for task in live)
        found = {"serviceName": "cpu", "status": "ACTIVE", "desiredCount": desired}
        deployments = [{"status": "PRIMARY"}]
        return {"services": [{**found, "runningCount": running, "deployments": deployments}]}

    def list_tasks(self, **_: Any) -> Any:
        _, tasks = self._listed()
        return {
            "taskArns": [arn for arn, each in tasks.items() if each["desiredStatus"] == "RUNNING"]
        }

    def describe_tasks(self, tasks: list[str], **_: Any) -> Any:
        _, known = self._listed()
        return {"tasks": [dict(known[arn]) for arn in tasks if arn in known]}

    def update_task_protection(self, tasks: list[str], protectionEnabled: bool, **_: Any) -> Any:  # noqa: N803
        until = self.now + 60 * PROTECTED if protectionEnabled else -1.0
        done = [arn for arn in tasks if self.tasks[arn]["lastStatus"] == "RUNNING"]
        for arn in done:
            self.tasks[arn]["until"] = until
        return {"protectedTasks": [{"taskArn": arn} for arn in done]}

    def update_service(self, desiredCount: int, **_: Any) -> Any:  # noqa: N803
        self.desired = desiredCount
        return {}

    def stop_task(self, task: str, **_: Any) -> Any:
        if self.tasks[task]["lastStatus"] == "RUNNING":
            self.stopped_by_name.add(task)
        self.tasks[task].update(desiredStatus="STOPPED", lastStatus="STOPPED")
        return {}

    def _listed(self) -> Any:
        """Read how it is; a list may be out of date."""
        return self.random.choice(self.past) if self.random.random() < 0.1 else self.snapshot()


class Faulty:
    """A client whose calls fail, before or after they have taken effect."""

    def __init__(self, cloud: Cloud, rate: float) -> None:
        self._cloud, self._rate = cloud, rate
        self.meta = SimpleNamespace(service_model=SimpleNamespace(signing_name="ecs"))

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self._cloud, name)

        def call(**given: Any) -> Any:
            random = self._cloud.random
            fault = random.random()
            if fault < self._rate:
                code, status = random.choice(
                    (("ThrottlingException", 400), ("ServerException", 500))
                )
                answer = {
                    "Error": {"Code": code, "Message": "no"},
                    "ResponseMetadata": {"HTTPStatusCode": status},
                }
                raise ClientError(answer, name)  # type: ignore[arg-type]
            done = real(**given)
            if fault < 2 * self._rate:
                raise ReadTimeoutError(endpoint_url="https://ecs")
            return done

        call.__self__ = self  # type: ignore[attr-defined]
        call.__name__ = name
        return call

    def get_paginator(self, name: str) -> Any:
        method = getattr(self, name)

        class Pages:
            def paginate(self, **given: Any) -> Iterator[Any]:
                yield method(**given)

        return Pages()


def run(seed: int) -> Cloud:
    """Size a service up and down, as the scaler would, through every fault."""
    random = Random(seed)
    cloud = Cloud(random)
    aws = Aws("eu-central-1")
    aws.client = lambda _service: Faulty(cloud, 0.08)  # type: ignore[assignment, misc]
    fleet = FargateFleet("cpu", "eu-central-1", "lab", "cpu", ecs=Ecs(aws, "lab"))
    named: set[str] = set()
    for _ in range(STEPS):
        for stopped in cloud.reconcile():
            assert stopped.rpartition("/")[2] in named, f"seed {seed}: {stopped} was not named"
        for arn in cloud.stopped_by_name:
            assert arn.rpartition("/")[2] in named, f"seed {seed}: {arn} was not named"
        assert LEAST <= cloud.desired <= MOST, f"seed {seed}: {cloud.desired}"
        try:
            seen = fleet.observe()
            running = [member for member in seen.members if member.state == "running"]
            if random.random() < 0.5:
                fleet.resize(random.randint(max(seen.desired, LEAST), MOST))
                continue
            going = random.sample(running, random.randint(0, max(0, len(running) - LEAST)))
            to = max(LEAST, seen.desired - len(going))
            named |= {member.id for member in going}  # drained from now on
            fleet.resize(to, going)
        except FleetError:
            continue
    return cloud


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_nobody_is_stopped_who_was_not_named(first: int) -> None:
    for seed in range(first, first + 20):
        run(seed)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_runs() -> None:
    for seed in range(1000):
        run(seed)
