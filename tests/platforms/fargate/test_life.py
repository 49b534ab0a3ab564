"""The life of a cluster on Fargate, by the command line and the real engine, on the lab's AWS."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homes import PERENNIAL, run, wait_until
from tests.labs.aws.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).parents[3] / "examples" / "fargate.yaml"
ECS = "perennial-lab-ecs"
FIXED = """
name: lab
platform: fargate
workers: {cpu: {count: 2, threads: 2, memory: 6 GiB}}
jupyter: null
fargate: {region: eu-central-1, image: "registry.example.org/dask:1", load_balancer: true}
"""


class Operator:
    """Somebody with a home of their own and the account's keys."""

    def __init__(self, lab: Lab, home: Path) -> None:
        own = lab.environment_of(home / "states")
        own.pop("PULUMI_BACKEND_URL")
        self.environment = {**own, "HOME": str(home), "XDG_STATE_HOME": str(home / "s")}

    def run(self, *words: str, code: int = 0) -> str:
        return run(PERENNIAL, *words, environment=self.environment, code=code, timeout=400)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def operator(aws: Lab, home: Path) -> Operator:
    if aws.engine is None:
        pytest.skip("no engine of Pulumi's here")
    return Operator(aws, home)


def services(aws: Lab) -> dict[str, Any]:
    client = aws.client("ecs")
    [cluster] = [arn for arn in client.list_clusters()["clusterArns"] if ECS in arn]
    arns = client.list_services(cluster=cluster)["serviceArns"]
    found = client.describe_services(cluster=cluster, services=arns)["services"]
    return {each["serviceName"]: each for each in found}


def test_the_example_lives_and_leaves_nothing_but_notebooks(aws: Lab, operator: Operator) -> None:
    plan = operator.run("plan", "-f", str(EXAMPLE))
    assert "2 tasks of 4 vCPU with 16 GiB, some on Spot" in plan
    assert aws.leftovers() == []

    assert "lab is up" in operator.run("up", "-f", str(EXAMPLE), "--yes")
    found = services(aws)
    assert set(found) == {"scheduler", "cpu", "jupyter", "scaler"}
    assert {each["desiredCount"] for name, each in found.items() if name != "cpu"} == {1}
    ours = [each for each in aws.leftovers() if each.tags.get("perennial:cluster") == "lab"]
    untagged = {each.kind for each in aws.leftovers()} - {each.kind for each in ours}
    # AWS makes these, and tags no interface; ECS tags tasks as their services are.
    assert untagged <= {"NetworkInterfaces", "MountTargets", "HostedZones", "EcsTasks"}, untagged

    before = {(each.kind, each.id) for each in aws.leftovers()}
    assert "unchanged" in operator.run("up", "-f", str(EXAMPLE), "--yes")
    assert {(each.kind, each.id) for each in aws.leftovers()} == before

    status = operator.run("status", "--json", "-c", "lab")
    assert len(json.loads(status)["services"]) == 5

    stream = "cpu/worker/0a1b2c3d"
    logs = aws.client("logs")
    logs.create_log_stream(logGroupName="/perennial/lab", logStreamName=stream)
    now = int(time.time() * 1000)
    events = [{"timestamp": now + number, "message": f"line {number}"} for number in range(9)]
    logs.put_log_events(logGroupName="/perennial/lab", logStreamName=stream, logEvents=events)
    said = operator.run("logs", "cpu", "--lines", "2")
    assert [line for line in said.splitlines() if "line" in line][-1].endswith("line 8")
    assert "line 6" not in said
    operator.run("logs", "scheduler")  # moto does not look at the prefix
    asked = [call for call in aws.calls() if call.operation == "FilterLogEvents"]
    assert asked[-1].params["logStreamNamePrefix"] == "scheduler/"

    operator.run("down", "-c", "lab", "--force")
    left = aws.leftovers()
    assert {each.tags.get("perennial:part") for each in left} <= {"notebooks", None}, left
    assert {each.kind for each in left} == {"FileSystems", "AccessPoints"}, left


def test_a_size_belongs_to_who_has_set_it(aws: Lab, operator: Operator, home: Path) -> None:
    """up → scale → up, for a fixed group and behind a load balancer; then another size."""
    file = home / "lab.yaml"
    file.write_text(FIXED)
    said = operator.run("up", "-f", str(file), "--yes")
    assert "tls://scheduler.lab.perennial" not in said  # the load balancer's address
    operator.run("scale", "cpu=4", "-c", "lab")
    assert services(aws)["cpu"]["desiredCount"] == 4
    wait_until(lambda: services(aws)["cpu"]["runningCount"] == 4)

    file.write_text(FIXED.replace("dask:1", "dask:2"))
    plan = operator.run("plan", "-f", str(file))
    assert "scheduler    image; ALL RUNNING WORK AND RESULTS ARE LOST" in plan

    operator.run("restart", "cpu", "--force")

    found = operator.run("doctor", "-c", "lab")
    assert "tasks that run: scheduler 1/1, cpu 4/4" in found
    assert "2 there, one of each role" in found

    # As where ECS has gone back from a version of which no task started.
    ecs = aws.client("ecs")
    newer = ecs.describe_task_definition(taskDefinition="perennial-lab-cpu")["taskDefinition"]
    kept = ("family", "containerDefinitions", "networkMode", "cpu", "memory")
    made = ecs.register_task_definition(**{key: newer[key] for key in kept})["taskDefinition"]
    found = operator.run("doctor", "-c", "lab", code=1)
    runs, new = (each["taskDefinitionArn"].rpartition("/")[2] for each in (newer, made))
    assert f"cpu: runs {runs}, the newest is {new}; ECS goes back where" in found
    ecs.deregister_task_definition(taskDefinition=made["taskDefinitionArn"])

    other = Operator(aws, home / "other")
    (home / "other").mkdir(exist_ok=True)
    refused = other.run("up", "-f", str(file), "--yes", code=1)
    assert "`perennial up` here has not made it" in refused
    assert refused.strip().count("\n") <= 1

    operator.run("down", "-c", "lab", "--force")
    assert aws.leftovers() == []
