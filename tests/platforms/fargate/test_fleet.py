"""The fleet of an ECS service, held to the contract of fleets, on moto."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from perennial.aws.client import Aws
from perennial.errors import Busy, FleetMissing, NoCapacity
from perennial.platforms.fargate.ecs import Ecs
from perennial.platforms.fargate.fleet import FargateFleet
from tests.homes import wait_until
from tests.platforms import contract
from tests.platforms.fargate.controller import REGION, Controller, ecs

CLUSTER = "perennial-lab-ecs"
NO_ROOM = (
    "(service cpu) was unable to place a task. Reason: You've reached the limit on the number of"
    " vCPUs you can run concurrently. For more information, see the troubleshooting guide."
)


class Services(contract.Platform):
    """A service with three tasks, and what AWS could do to it."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.client: Any = boto3.client("ecs", region_name=REGION)
        network = boto3.client("ec2", region_name=REGION)
        subnet = network.describe_subnets()["Subnets"][0]
        group = network.describe_security_groups()["SecurityGroups"][0]
        self.client.create_cluster(clusterName=CLUSTER)
        self.client.register_task_definition(
            family="cpu",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="1024",
            memory="4096",
            containerDefinitions=[{"name": "worker", "image": "dask"}],
        )
        where = {"subnets": [subnet["SubnetId"]], "securityGroups": [group["GroupId"]]}
        for name in ("cpu", "gpu"):
            self.client.create_service(
                cluster=CLUSTER,
                serviceName=name,
                desiredCount=3,
                taskDefinition="cpu",
                launchType="FARGATE",
                networkConfiguration={"awsvpcConfiguration": where},
            )
        self.fleet = FargateFleet("cpu", REGION, CLUSTER, "cpu")
        self.settled(3)

    @property
    def service(self) -> Any:
        return self.controller.backend.services[f"{CLUSTER}:cpu"]

    def picture(self) -> Any:
        tasks = self.controller.backend.tasks[CLUSTER].values()
        told = sorted((task.id, task.desired_status, task.last_status) for task in tasks)
        return self.service.desired_count, told, sorted(self.controller.protected)

    def hold_back(self) -> None:
        self.controller.starts = False

    def lose(self) -> None:
        self.client.delete_service(cluster=CLUSTER, service="cpu", force=True)

    @contextmanager
    def busy(self) -> Iterator[None]:
        older = {**self.service.deployments[0], "status": "ACTIVE"}
        self.service.deployments.append(older)
        yield
        self.service.deployments.remove(older)

    def fill(self) -> None:
        self.controller.say("cpu", "(service cpu) has reached a steady state.")
        self.controller.say("cpu", NO_ROOM)


@pytest.fixture
def platform() -> Iterator[Services]:
    with ecs() as controller:
        yield Services(controller)


class TestContract(contract.Contract):
    """What holds for every fleet."""


def test_a_task_that_is_listed_and_not_described_yet_is_on_its_way(platform: Services) -> None:
    platform.hold_back()
    assert platform.fleet.resize(4) == 4
    wait_until(lambda: len(platform.fleet.observe().members) == 4)
    newest = platform.fleet.observe().members[-1]
    arn = next(arn for arn in platform.controller.backend.tasks[CLUSTER] if newest.id in arn)
    platform.controller.unknown[arn] = 1
    seen = platform.fleet.observe()
    assert [member.state for member in seen.members] == ["running"] * 3 + ["starting"]
    assert seen.members[-1].id == newest.id
    assert not seen.settled


def test_who_stays_is_protected_before_the_size_is_lowered(platform: Services) -> None:
    """The controller takes the oldest that is not protected: here that is one who stays."""
    *staying, leaves = platform.fleet.observe().members
    assert platform.fleet.resize(2, [leaves]) == 2
    assert contract.ids(platform.settled(2).members) == contract.ids(staying)
    protected = {arn.rpartition("/")[2] for arn in platform.controller.protected}
    assert protected == contract.ids(staying)


def test_nothing_is_lowered_where_ecs_does_not_protect(
    platform: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = platform.fleet.observe()
    answer = {"protectedTasks": [], "failures": []}
    monkeypatch.setattr(platform.controller, "protect", lambda *_: answer)
    with pytest.raises(Busy, match="cpu: ECS has not protected 2 tasks"):
        platform.fleet.resize(2, before.members[:1])
    assert platform.fleet.observe() == before


@pytest.mark.parametrize("call", range(4))
def test_cut_off_anywhere_it_ends_what_was_begun(
    platform: Services, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The call takes effect and its answer is lost, at each step of a resize."""
    members = platform.fleet.observe().members
    leaving = [members[1]]
    steps = [
        ("protect", 0), ("protect", 1), ("resize", 0), ("stop", 0),
    ]  # fmt: skip
    name, skipped = steps[call]
    real, left = getattr(Ecs, name), [skipped]

    def lost(self: Ecs, *args: Any, **more: Any) -> Any:
        done = real(self, *args, **more)
        if left[0] == 0:
            left[0] -= 1
            raise ConnectionError("the answer never came")
        left[0] -= 1
        return done

    with monkeypatch.context() as broken:
        broken.setattr(Ecs, name, lost)
        with pytest.raises(ConnectionError):
            platform.fleet.resize(2, leaving)
    assert platform.fleet.resize(2, leaving) == 2
    assert contract.ids(platform.settled(2).members) == contract.ids(members) - {members[1].id}


def test_tasks_of_another_service_are_nobody_here(platform: Services) -> None:
    names = {member.id for member in platform.fleet.observe().members}
    other = FargateFleet("gpu", REGION, CLUSTER, "gpu")
    assert names.isdisjoint(member.id for member in other.observe().members)


def test_hundreds_of_tasks_come_in_pages_and_batches(platform: Services) -> None:
    assert platform.fleet.resize(230) == 230
    seen = platform.settled(230)
    assert platform.fleet.resize(120, seen.members[:110]) == 120
    assert contract.ids(platform.settled(120).members) == contract.ids(seen.members[110:])


def test_more_stay_than_one_call_protects(platform: Services) -> None:
    assert platform.fleet.resize(14) == 14
    seen = platform.settled(14)
    assert platform.fleet.resize(12, seen.members[:2]) == 12
    protected = {arn.rpartition("/")[2] for arn in platform.controller.protected}
    assert protected == contract.ids(seen.members[2:])


def test_tasks_that_do_not_start_are_no_lack_of_room(platform: Services) -> None:
    platform.controller.say(
        "cpu",
        "(service cpu) is unable to consistently start tasks successfully. For more information,"
        " see the Troubleshooting section.",
    )
    said = r"cpu: tasks of cpu do not start.*`perennial doctor`"
    with pytest.raises(NoCapacity, match=said) as no:
        platform.fleet.resize(4)
    assert "quota" not in str(no.value)
    assert "room" not in str(no.value)
    assert platform.service.desired_count == 3


def test_a_cluster_that_is_not_there(platform: Services) -> None:
    with pytest.raises(FleetMissing, match="no service cpu in the ECS cluster other"):
        FargateFleet("cpu", REGION, "other", "cpu").observe()


def test_stopping_what_has_stopped_is_well(platform: Services) -> None:
    own = Ecs(Aws(REGION), CLUSTER)
    task = own.tasks("cpu")[0]
    own.stop(task, "test")
    own.stop(task, "test")
