"""The component for Fargate: what it registers, also where values are Outputs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pulumi
import pytest

from perennial.fleet import opened
from perennial.stacks.base import OUTPUTS
from perennial.stacks.fargate import FargateCluster
from perennial.stacks.provider.values import decoded
from tests.stacks.test_registry import Recorder, recorder

__all__ = ["recorder"]

ARN = "arn:aws:ecs:eu-central-1:123456789012:cluster/perennial-lab-ecs"
TREE: dict[str, Any] = {
    "name": "lab",
    "workers": {
        "cpu": {"threads": 2, "memory": "6 GiB", "scale": {"min": 1, "max": 3}},
        "gpu-x": {"count": 2, "memory": "6 GiB"},
    },
    "fargate": {"region": "eu-central-1", "image": "registry.example.org/dask:1"},
}


class Account(Recorder):
    """Makes up what AWS tells."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        name, told = super().new_resource(args)
        arn = ARN if args.typ.endswith("cluster:Cluster") else f"arn:of:{args.name}"
        made = {"arn": arn, "versionId": f"version-of-{args.name}", "dnsName": "lb.example.org"}
        return name, {**told, **made}


@pytest.fixture
def account(recorder: Recorder) -> Account:
    made = Account()
    pulumi.runtime.set_mocks(made)
    return made


def run(tree: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {}

    @pulumi.runtime.test
    def program() -> pulumi.Output[Any]:
        cluster = FargateCluster("lab", tree, opts)
        outputs = {name: getattr(cluster, name) for name in OUTPUTS}
        return pulumi.Output.all(**outputs).apply(told.update)

    program()
    return told


def with_(**fargate: Any) -> dict[str, Any]:
    return {**TREE, "fargate": {**TREE["fargate"], **fargate}}


def containers(account: Account, part: str) -> dict[str, Any]:
    text = decoded(account.inputs[f"lab-{part}-task"]["containerDefinitions"])
    [container] = json.loads(text)
    return dict(container)


def test_what_it_tells(account: Account) -> None:
    told = run(TREE)
    assert told["scheduler_address"] == "tls://scheduler.lab.perennial:8786"
    assert told["jupyter_url"] == "https://jupyter.lab.perennial:8888/lab"
    assert told["connection"]["tls"] == {"ca": "made", "cert": "made", "key": "made"}
    for group, handle in told["fleets"].items():
        assert opened("fargate", handle), group
    assert told["fleets"]["gpu-x"]["fixed"]


def test_names_are_a_contract(account: Account) -> None:
    run(TREE)
    names = {name for _, name in account.made}
    assert all(name == "lab" or name.startswith("lab-") for name in names)
    services = {
        f"lab-{part}-service" for part in ("scheduler", "cpu", "gpu-x", "jupyter", "scaler")
    }
    assert {name for typ, name in account.made if typ == "aws:ecs/service:Service"} == services
    roles = {name for typ, name in account.made if typ == "aws:iam/role:Role"}
    assert roles == {
        f"lab-{role}{kind}-role"
        for role in ("scheduler", "worker", "jupyter", "scaler")
        for kind in ("", "-execution")
    }


def test_a_role_reads_its_own_secret_and_a_worker_has_no_rights(account: Account) -> None:
    run(TREE)
    for role in ("scheduler", "worker", "jupyter", "scaler"):
        policy = account.inputs[f"lab-{role}-execution-rights"]["policy"]
        granted = json.loads(policy)["Statement"]
        [secret] = [each for each in granted if "secretsmanager:GetSecretValue" in each["Action"]]
        assert secret["Resource"] == [f"arn:of:lab-{role}-secret"]
    assert "lab-worker-rights" not in account.inputs
    read = containers(account, "cpu")["secrets"][0]["valueFrom"]
    assert read == "arn:of:lab-worker-secret:::version-of-lab-worker-secret-version"


def test_nothing_is_open_to_the_internet(account: Account) -> None:
    run(with_(network={"clients": ["10.0.0.0/8", "sg-0a1b2c3d"]}, load_balancer=True))
    rules = {
        name: inputs
        for name, inputs in account.inputs.items()
        if "-from-" in name and "securityGroupId" in inputs
    }
    assert {inputs.get("cidrIpv4") for inputs in rules.values()} == {None, "10.0.0.0/8"}
    assert {(rule["fromPort"], rule["toPort"]) for rule in rules.values()} == {
        (8786.0, 8786.0),
        (8888.0, 8888.0),
        (40000.0, 40003.0),
    }
    for name, inputs in account.inputs.items():
        if name.endswith("-service"):
            assert inputs["networkConfiguration"]["assignPublicIp"] is False
        if name.startswith("lab-private") or name.startswith("lab-public"):
            assert inputs["mapPublicIpOnLaunch"] is False
    assert account.inputs["lab-balancer"]["internal"] is True


def test_clients_go_to_the_load_balancer(account: Account) -> None:
    told = run(with_(load_balancer=True))
    assert told["scheduler_address"] == "tls://lb.example.org:8786"
    assert told["jupyter_url"] == "https://lb.example.org:8888/lab"
    assert "tls://scheduler.lab.perennial:8786" in containers(account, "cpu")["command"]


def test_a_network_of_the_same_program(account: Account) -> None:
    """As with `awsx.ec2.Vpc`: the VPC, its subnets, an image and a policy are Outputs."""
    network = {
        "vpc": pulumi.Output.from_input("vpc-0a1b2c3d"),
        "subnets": pulumi.Output.from_input(["subnet-0a1b2c3d", "subnet-1a1b2c3d"]),
        "security_groups": [pulumi.Output.from_input("sg-1a1b2c3d")],
    }
    image = pulumi.Output.from_input("registry.example.org/dask:7")
    policies = [pulumi.Output.from_input("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")]
    run(with_(network=network, image=image, policies=policies))
    assert not any(typ == "aws:ec2/vpc:Vpc" for typ, _ in account.made)
    placed = account.inputs["lab-cpu-service"]["networkConfiguration"]
    assert placed["subnets"] == ["subnet-0a1b2c3d", "subnet-1a1b2c3d"]
    assert "sg-1a1b2c3d" in placed["securityGroups"]
    assert containers(account, "cpu")["image"] == "registry.example.org/dask:7"
    attached = account.inputs["lab-worker-policy-0"]["policyArn"]
    assert attached == "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


def test_alarms_where_there_is_a_topic(account: Account) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    run(with_(alarms={"topic": topic}))
    alarms = {name for typ, name in account.made if typ.endswith(":MetricAlarm")}
    assert alarms == {
        *("lab-scheduler-no-scheduler", "lab-scaler-drain-overdue", "lab-certificate-expiry"),
        *("lab-cpu-no-workers", "lab-gpu-x-no-workers"),
    }
    assert account.inputs["lab-cpu-no-workers"]["alarmActions"] == [topic]
    filters = [inputs for name, inputs in account.inputs.items() if name.endswith("-lines")]
    assert [each["pattern"] for each in filters] == ['"past the deadline of its drain"']
    expiry = account.inputs["lab-certificate-expiry"]
    # A fortnight before the worker's certificate ends, which is the first.
    assert expiry["threshold"] == datetime(2027, 5, 1, 12, tzinfo=UTC).timestamp()
    assert expiry["alarmActions"] == [topic]
    assert [each.get("expression") for each in expiry["metricQueries"]] == [None, "EPOCH(any)"]


def test_without_nat_there_is_an_endpoint_for_what_tasks_reach(account: Account) -> None:
    run(with_(network={"nat": "none", "endpoints": True, "zones": ["b"]}))
    found = {inputs.get("serviceName") for inputs in account.inputs.values()} - {None}
    assert found == {
        f"com.amazonaws.eu-central-1.{service}"
        for service in ("s3", "ecr.api", "ecr.dkr", "ecs", "logs", "secretsmanager", "ssmmessages")
    }
    assert not any(typ.endswith(":NatGateway") for typ, _ in account.made)
