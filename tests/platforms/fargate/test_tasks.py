"""Task definitions and services: what the file says, within what the API's own model takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import PerennialError, SpecError
from perennial.platforms.fargate import rights
from perennial.platforms.fargate.files import files
from perennial.platforms.fargate.parts import Part, parts
from perennial.platforms.fargate.sizes import (
    EVERY,
    MIB,
    TABLE,
    UNITS,
    SizeRequest,
    TaskSize,
    nearest,
)
from perennial.platforms.fargate.tasks import (
    References,
    capacity,
    service_definition,
    task_definition,
)
from perennial.spec import ClusterSpec, loads

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/dask:1"
FILE = {
    "name": "lab",
    "platform": "fargate",
    "workers": {
        "cpu": {"count": 2, "threads": 4, "memory": "14 GiB", "scale": {"min": 1, "max": 9}},
        "big-mem": {"count": 1, "processes": 2, "threads": 2, "memory": "20 GiB", "drain": "90 s"},
    },
    "fargate": {
        "region": "eu-central-1",
        "image": IMAGE,
        "notebooks": {},
        "architecture": "arm64",
        "workers": {"cpu": {"base": 1, "on_demand": 0, "spot": 3, "ephemeral_storage": 100}},
    },
}
REFERS = References("arn:execution", "arn:task", "arn:secret:::1", "fs-0a1b2c3d", "fsap-0a1b2c3d")


def spec(**changes: Any) -> ClusterSpec:
    tree = json.loads(json.dumps(FILE))
    for path, value in changes.items():
        *before, last = path.split("__")
        inner = tree
        for key in before:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return loads(json.dumps(tree))


def by_key(cluster: ClusterSpec) -> dict[str, Part]:
    return {part.key: part for part in parts(cluster)}


def of(cluster: ClusterSpec, key: str) -> dict[str, Any]:
    found: dict[str, Any] = task_definition(cluster, by_key(cluster)[key], REFERS)
    return found


def told(task: dict[str, Any]) -> dict[str, Any]:
    [variable] = task["containerDefinitions"][0]["environment"]
    found: dict[str, Any] = json.loads(variable["value"])
    return found


def test_the_api_takes_every_task_and_service() -> None:
    model = boto3.client("ecs", region_name="eu-central-1").meta.service_model
    cluster = spec()
    for part in parts(cluster):
        made = {
            "RegisterTaskDefinition": task_definition(cluster, part, REFERS),
            "CreateService": service_definition(cluster, part, "perennial-lab-ecs"),
        }
        for operation, values in made.items():
            shape = model.operation_model(operation).input_shape
            report = ParamValidator().validate(values, shape)
            assert not report.has_errors(), report.generate_report()


def test_each_part_reads_its_own_secret_files_and_no_others() -> None:
    cluster = spec()
    files = {key: set(told(of(cluster, key))["secrets"]) for key in by_key(cluster)}
    assert files == {
        "scheduler": {"ca.pem", "scheduler.pem", "scheduler-key.pem"},
        "cpu": {"ca.pem", "worker.pem", "worker-key.pem"},
        "big-mem": {"ca.pem", "worker.pem", "worker-key.pem"},
        "jupyter": {
            *("ca.pem", "client.pem", "client-key.pem"),
            *("jupyter.pem", "jupyter-key.pem", "jupyter-token"),
        },
        "scaler": {"ca.pem", "client.pem", "client-key.pem"},
    }


def test_keys_are_in_memory_alone() -> None:
    for key in by_key(spec()):
        for path in told(of(spec(), key))["secrets"].values():
            assert path.startswith("/dev/shm/perennial/")


def test_there_are_never_two_schedulers_and_groups_roll() -> None:
    cluster = spec()
    made = {key: service_definition(cluster, part, "c") for key, part in by_key(cluster).items()}
    rolls = {key: each["deploymentConfiguration"] for key, each in made.items()}
    for key in ("scheduler", "jupyter", "scaler"):
        assert made[key]["desiredCount"] == 1
        assert (rolls[key]["minimumHealthyPercent"], rolls[key]["maximumPercent"]) == (0, 100)
    for key in ("cpu", "big-mem"):
        assert (rolls[key]["minimumHealthyPercent"], rolls[key]["maximumPercent"]) == (100, 200)
    assert all(each["deploymentCircuitBreaker"]["rollback"] for each in rolls.values())
    assert {each["availabilityZoneRebalancing"] for each in made.values()} == {"DISABLED"}
    assert {key for key, each in made.items() if each["enableExecuteCommand"]} == {
        "scheduler",
        "jupyter",
    }


def test_spot_has_a_base_that_stays_and_the_scheduler_is_never_on_it() -> None:
    cluster = spec()
    assert capacity(cluster, by_key(cluster)["cpu"]) == [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 0},
        {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 3},
    ]
    for key in ("scheduler", "jupyter", "scaler", "big-mem"):
        assert [each["capacityProvider"] for each in capacity(cluster, by_key(cluster)[key])] == [
            "FARGATE"
        ]


def test_a_member_has_the_time_to_drain_before_fargate_kills_it() -> None:
    cluster = spec()
    stops = {
        key: of(cluster, key)["containerDefinitions"][0]["stopTimeout"]
        for key in ("cpu", "big-mem")
    }
    assert stops == {"cpu": 90, "big-mem": 120}


def test_a_member_is_called_by_its_task_and_listens_on_its_own_address() -> None:
    argv = of(spec(), "big-mem")["containerDefinitions"][0]["command"]
    assert argv[argv.index("--name") + 1] == "big-mem-$(TASK)"
    assert argv[argv.index("--host") + 1] == "$(ADDRESS)"
    assert argv[argv.index("--worker-port") + 1] == "40000:40007"
    assert "tls://scheduler.lab.perennial:8786" in argv


def test_what_a_person_writes_is_not_filled_in() -> None:
    cluster = spec(workers__cpu__env={"WORD": "$(TASK) costs $5"})
    assert told(of(cluster, "cpu"))["environment"]["WORD"] == "$$(TASK) costs $$5"


def test_disk_and_architecture() -> None:
    made = of(spec(), "cpu")
    assert made["ephemeralStorage"] == {"sizeInGiB": 100}
    assert made["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    assert "ephemeralStorage" not in of(spec(), "scheduler")


def test_notebooks_are_jupyters_alone_and_encrypted_on_their_way() -> None:
    [volume] = of(spec(), "jupyter")["volumes"]
    assert volume["efsVolumeConfiguration"]["transitEncryption"] == "ENABLED"
    assert of(spec(), "cpu")["volumes"] == []


def test_a_task_definition_that_is_too_long() -> None:
    cluster = spec(workers__cpu__env={f"V{number}": "x" * 4000 for number in range(20)})
    with pytest.raises(PerennialError, match=r"cpu: its task definition has .* allowed: 65536"):
        of(cluster, "cpu")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"workers__cpu__drain": "91 s"}, "workers.cpu.drain: .*at most 90 s on the platform fargate"),
    ({"fargate__workers__gpu": {}}, "names of groups: cpu, big-mem"),
    ({"fargate__image": "daskdev/dask:2026.8.0"}, "an image with dask-perennial inside"),
    ({"fargate__image": "ghcr.io/dask/dask:latest"}, "an image with dask-perennial inside"),
    ({"fargate__scheduler": {"cpu": 3}}, "one of 0.25, 0.5, 1, 2, 4, 8, 16"),
    (
        {"fargate__scheduler": {"cpu": 1, "memory": "9 GiB"}},
        "found 1 vCPU with 9 GiB.*nearest are: 1 vCPU with 8 GiB; 2 vCPU with 9 GiB",
    ),
    ({"fargate__scheduler": {"memory": "2 GiB"}}, "at least .* for the tasks of scheduler"),
    ({"workers__cpu__memory": "200 GiB"}, "nearest are: 4 vCPU with 30 GiB; 16 vCPU with 120 GiB"),
    ({"workers__cpu__threads": 20}, "nearest are"),
    ({"fargate__workers__cpu": {"on_demand": 0}}, "1 or more where spot is 0"),
    ({"fargate__workers__cpu": {"surge": 0}}, "1 or more where healthy is 100"),
    ({"fargate__ephemeral_storage": 20}, "21"),
    ({"security": {"tls": False}}, "true on the platform fargate"),
    ({"environment": {"requirements": ["dask"]}}, "an image with its packages"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=lambda each: str(each)[:50])
def test_what_fargate_cannot_have_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as found:
        spec(**changes)
    assert re.search(said, str(found.value)), str(found.value)


@given(st.floats(0.1, 20), st.integers(1, 150 * 1024))
def test_the_smallest_size_that_will_do(processors: float, memory: int) -> None:
    wish = SizeRequest(processors, memory * MIB)
    size = wish.smallest()
    fitting = [
        each for each in EVERY if each.cpu >= int(processors * UNITS) and each.memory >= memory
    ]
    assert size == (min(fitting) if fitting else None)


@given(st.sampled_from([*TABLE, 3072, 20_000]), st.integers(1, 200_000))
def test_the_nearest_sizes_are_sizes(cpu: int, memory: int) -> None:
    found = nearest(TaskSize(cpu, memory))
    assert found
    assert set(found) <= set(EVERY)
    if TaskSize(cpu, memory) in EVERY:
        assert TaskSize(cpu, memory) in found


def test_what_is_rendered_is_json_and_a_recipe_with_the_scalers_client() -> None:
    found = files(spec())
    for path, text in found.items():
        if path.endswith(".json"):
            json.loads(text)
    assert {path for path in found if path.startswith("tasks/")} == {
        f"tasks/{key}.json" for key in by_key(spec())
    }
    needs = [line for line in found["container/requirements.in"].splitlines() if line[:1] != "#"]
    assert "boto3" in needs
    assert "dask-perennial" in needs
    assert "kubernetes" not in "".join(found.values())
    assert "ACCOUNT" in found["tasks/cpu.json"]


CLUSTER = "arn:aws:ecs:eu-central-1:123456789012:cluster/perennial-lab-ecs"


def _granted(role: str) -> Iterator[tuple[str, str]]:
    for statement in rights.task(spec(), role, CLUSTER, "arn:fs"):
        for action in statement.actions:
            for resource in statement.resources:
                yield action, resource


def test_a_worker_has_no_rights_at_all() -> None:
    assert rights.task(spec(), "worker", CLUSTER, "arn:fs") == ()


def test_the_scaler_changes_groups_that_are_scaled_and_nothing_else() -> None:
    found = list(_granted("scaler"))
    assert [where for what, where in found if what == "ecs:UpdateService"] == [
        "arn:aws:ecs:eu-central-1:123456789012:service/perennial-lab-ecs/cpu"
    ]
    tasks = "arn:aws:ecs:eu-central-1:123456789012:task/perennial-lab-ecs/*"
    assert {where for what, where in found if what == "ecs:StopTask"} == {tasks}
    assert {what for what, where in found if where == "*"} == {"ecs:ListTasks"}


def test_only_the_scheduler_and_jupyter_are_reached_by_ssm() -> None:
    assert {what for what, _ in _granted("scheduler")} == {
        f"ssmmessages:{word}"
        for word in (
            *("CreateControlChannel", "CreateDataChannel"),
            *("OpenControlChannel", "OpenDataChannel"),
        )
    }
    assert rights.task(spec(fargate__exec=False), "scheduler", CLUSTER, "") == ()


def test_ecs_reads_one_secret_and_pulls_one_image_for_a_role() -> None:
    granted = {
        action: each.resources
        for each in rights.execution(spec(), "worker", "arn:logs", "arn:secret")
        for action in each.actions
    }
    assert granted["secretsmanager:GetSecretValue"] == ("arn:secret",)
    assert granted["logs:PutLogEvents"] == ("arn:logs:*",)
    assert granted["ecr:BatchGetImage"] == (
        "arn:aws:ecr:eu-central-1:123456789012:repository/team/dask",
    )
    elsewhere = spec(fargate__image="registry.example.org/dask:1")
    actions = {
        action
        for each in rights.execution(elsewhere, "worker", "arn:logs", "arn:secret")
        for action in each.actions
    }
    assert not any(action.startswith("ecr:") for action in actions)
