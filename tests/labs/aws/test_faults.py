"""The fleets on AWS under faults: what they hold is right whatever befalls their calls.

In each run somebody resizes a group again and again, as the scaler does: who leaves was drained.
The platform is moto in this process; what is true of it is read from its memory.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest
from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.server import ThreadedMotoServer

from perennial.aws.client import Aws
from perennial.errors import FleetError
from perennial.fleet import Fleet
from tests.labs.aws.faults import Faults, without_waiting
from tests.labs.aws.groups import refreshing
from tests.platforms.fargate import controller as ecs

REGION, ACCOUNT, NAME = "eu-central-1", "123456789012", "perennial-lab-cpu"
STEPS, MOST = 12, 8


@dataclass
class World:
    """A fleet, and what is true of it."""

    fleet: Fleet
    faults: Faults
    #: The size that the platform holds.
    desired: Callable[[], int]
    #: Ids of members that run.
    running: Callable[[], set[str]]
    #: Let the platform do what it was asked for.
    work: Callable[[], None]


@cache
def prepared() -> tuple[Aws, str]:
    """Make a launch template and a task definition; return the account, and a subnet."""
    aws = Aws(REGION)
    ec2, tasks = aws.client("ec2"), aws.client("ecs")
    image = ec2.describe_images(MaxResults=5)["Images"][0]["ImageId"]
    data = {"ImageId": image, "InstanceType": "m7i.large"}
    ec2.create_launch_template(LaunchTemplateName=NAME, LaunchTemplateData=data)
    tasks.register_task_definition(
        family="cpu",
        **{"cpu": "256", "memory": "512", "networkMode": "awsvpc"},
        requiresCompatibilities=["FARGATE"],
        containerDefinitions=[{"name": "cpu", "image": "dask", "memory": 512}],
    )
    tasks.create_cluster(clusterName="lab")
    return aws, str(ec2.describe_subnets()["Subnets"][0]["SubnetId"])


@contextmanager
def on_ec2(seed: int) -> Iterator[World]:
    from perennial.platforms.ec2.fleet import Ec2Fleet

    aws, subnet = prepared()
    client = aws.client("autoscaling")
    client.create_auto_scaling_group(
        AutoScalingGroupName=NAME,
        LaunchTemplate={"LaunchTemplateName": NAME},
        **{"MinSize": 0, "MaxSize": MOST, "DesiredCapacity": 2},
        VPCZoneIdentifier=subnet,
        NewInstancesProtectedFromScaleIn=True,
    )
    faults = Faults(random.Random(seed))

    def group() -> Any:
        return autoscaling_backends[ACCOUNT][REGION].autoscaling_groups[NAME]

    try:
        with faults.befalling(client):
            yield World(
                Ec2Fleet("cpu", REGION, NAME, aws=aws),
                faults,
                lambda: int(group().desired_capacity),
                lambda: {one.instance.id for one in group().instance_states},
                lambda: None,
            )
    finally:
        client.delete_auto_scaling_group(AutoScalingGroupName=NAME, ForceDelete=True)
        # Moto keeps whatever has ended, and looks through all of it at each call.
        backend = ec2_backends[ACCOUNT][REGION]
        for ended in (backend.reservations, backend.volumes, backend.enis):
            ended.clear()


@contextmanager
def on_fargate(seed: int, controller: ecs.Controller) -> Iterator[World]:
    from perennial.platforms.fargate.ecs import Ecs
    from perennial.platforms.fargate.fleet import FargateFleet

    aws, subnet = prepared()
    client = aws.client("ecs")
    client.create_service(
        **{"cluster": "lab", "serviceName": "cpu", "taskDefinition": "cpu", "desiredCount": 2},
        networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": []}},
    )
    faults = Faults(random.Random(seed))

    def service() -> Any:
        return controller.backend.services["lab:cpu"]

    def running() -> set[str]:
        return {
            task.id
            for task in controller.tasks(service())
            if task.desired_status == "RUNNING" and task.last_status == "RUNNING"
        }

    def work() -> None:
        controller.reconcile()
        controller.reconcile()

    work()
    try:
        fleet = FargateFleet("cpu", REGION, "lab", "cpu", ecs=Ecs(aws, "lab"))
        with faults.befalling(client):
            yield World(fleet, faults, lambda: int(service().desired_count), running, work)
    finally:
        client.update_service(cluster="lab", service="cpu", desiredCount=0)
        controller.protected.clear()
        work()
        controller.backend.tasks.clear()
        controller.backend.services.clear()
        controller.unknown.clear()


@pytest.fixture(scope="module")
def moto() -> Iterator[ecs.Controller]:
    """Moto in this process; its ECS works when it is told to."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        **{"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": REGION},
        **{"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"},
    }
    with (
        patch.object(ecs, "LOOK", 3600),
        patch.dict(os.environ, own),
        ecs.scheduling() as controller,
        refreshing(),
        without_waiting(),
    ):
        yield controller
        server.stop()


def lived(world: World, seed: int) -> None:
    """Resize a group again and again; look after each step whether all is as it may be."""
    chance, least = random.Random(seed), 1
    drained: set[str] = set()
    for _ in range(STEPS):
        before, target = world.running(), chance.randint(least, MOST)
        try:
            seen = world.fleet.observe()
            running = [one for one in seen.members if one.state == "running"]
            there = sum(one.state != "leaving" for one in seen.members)
            leaving = chance.sample(running, min(len(running), max(0, there - target)))
            drained |= {one.id for one in leaving}
            assert world.fleet.resize(target, leaving) >= target
        except FleetError:
            pass  # the scaler asks again
        world.work()
        gone = before - world.running()
        assert gone <= drained, f"seed {seed}: {gone - drained} was not drained"
        assert least <= world.desired() <= MOST, f"seed {seed}: {world.desired()}"
    world.faults.on = False
    world.work()
    seen = world.fleet.observe()
    assert {one.id for one in seen.members if one.state == "running"} == world.running()
    running = [one for one in seen.members if one.state == "running"]
    world.fleet.resize(least, running[least:])
    world.work()
    assert world.desired() == least
    assert len(world.running()) == least


def one(platform: str, seed: int, moto: ecs.Controller) -> dict[str, int]:
    with on_ec2(seed) if platform == "ec2" else on_fargate(seed, moto) as world:
        lived(world, seed)
    return world.faults.seen


@pytest.mark.lab
@pytest.mark.smoke
@pytest.mark.timeout(900)
@pytest.mark.parametrize("platform", ["ec2", "fargate"])
def test_nothing_wrong_is_done_under_faults(platform: str, moto: ecs.Controller) -> None:
    seen: dict[str, int] = {}
    for seed in range(25):
        for kind, times in one(platform, seed, moto).items():
            seen[kind] = seen.get(kind, 0) + times
    assert min(seen[kind] for kind in ("throttled", "failed", "lost", "stale")) > 20, seen


@pytest.mark.lab
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("platform", ["ec2", "fargate"])
def test_a_thousand_runs(platform: str, moto: ecs.Controller) -> None:
    for seed in range(25, 1025):
        one(platform, seed, moto)
