"""The component for EC2: what it registers, also where values are Outputs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pulumi
import pytest

from perennial.fleet import opened
from perennial.stacks.base import OUTPUTS
from perennial.stacks.ec2 import Ec2Cluster
from perennial.stacks.provider.values import decoded
from tests.stacks.test_registry import Recorder, recorder

__all__ = ["recorder"]

# pulumi-aws says so while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:s3.BucketV2 has been deprecated")

TREE: dict[str, Any] = {
    "name": "lab",
    "environment": {"python": "/opt/lab/bin/python"},
    "workers": {
        "cpu": {"threads": 2, "memory": "6 GiB", "scale": {"min": 1, "max": 3}},
        "gpu-x": {"count": 2, "memory": "6 GiB"},
    },
    "ec2": {"region": "eu-central-1"},
}


class Account(Recorder):
    """Makes up what AWS tells."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        name, told = super().new_resource(args)
        made = {
            **{"arn": f"arn:of:{args.name}", "versionId": f"version-of-{args.name}"},
            **{"latestVersion": 7, "zoneId": "Z0", "bucket": told.get("bucket", "lab-bucket")},
        }
        return name, {**told, **made}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], Any]:
        return {"id": args.args.get("id"), "availabilityZone": "eu-central-1b"}, []


@pytest.fixture
def account(recorder: Recorder) -> Account:
    made = Account()
    pulumi.runtime.set_mocks(made)
    return made


def run(tree: dict[str, Any], *names: str) -> dict[str, Any]:
    told: dict[str, Any] = {}

    @pulumi.runtime.test
    def program() -> pulumi.Output[Any]:
        for name in names:
            Ec2Cluster(name, {**tree, "name": name})
        cluster = Ec2Cluster("lab", tree)
        outputs = {name: getattr(cluster, name) for name in OUTPUTS}
        return pulumi.Output.all(**outputs).apply(told.update)

    program()
    return told


def with_(**ec2: Any) -> dict[str, Any]:
    return {**TREE, "ec2": {**TREE["ec2"], **ec2}}


def user_data(account: Account, part: str) -> str:
    return base64.b64decode(account.inputs[f"lab-{part}-template"]["userData"]).decode()


def test_what_it_tells(account: Account) -> None:
    told = run(TREE)
    assert told["scheduler_address"] == "tls://scheduler.lab.perennial:8786"
    assert told["jupyter_url"] == "https://scheduler.lab.perennial:8888/lab"
    assert told["connection"]["tls"] == {"ca": "made", "cert": "made", "key": "made"}
    for group, handle in told["fleets"].items():
        assert opened("ec2", handle), group
    assert told["fleets"]["gpu-x"]["fixed"]


def test_names_are_a_contract_and_two_clusters_stand_in_one_stack(account: Account) -> None:
    run(TREE, "other")
    names = [name for _, name in account.made]
    assert len(names) == len(set(names))
    assert all(name.partition("-")[0] in ("lab", "other") for name in names)
    groups = {name for typ, name in account.made if typ == "aws:autoscaling/group:Group"}
    assert {name for name in groups if name.startswith("lab-")} == {
        "lab-scheduler-instances",
        "lab-cpu-instances",
        "lab-gpu-x-instances",
    }
    roles = {name for typ, name in account.made if typ == "aws:iam/role:Role"}
    assert {name for name in roles if name.startswith("lab-")} == {
        f"lab-{part}-role" for part in ("scheduler", "cpu", "gpu-x", "scaler")
    }


def test_no_key_is_in_what_an_instance_is_launched_with(account: Account) -> None:
    run(TREE)
    for part in ("scheduler", "cpu", "gpu-x"):
        text = user_data(account, part)
        assert "made" not in text.rpartition("\nfetch(")[2]
        assert text.startswith("#!/usr/bin/python3\n")
    assert "arn:of:lab-scaler-role" in user_data(account, "scheduler")
    assert "arn:of:lab-scaler-role" not in user_data(account, "cpu")


def test_a_group_reads_the_workers_secret_alone(account: Account) -> None:
    run(TREE)
    for part, secrets in {
        "cpu": ["arn:of:lab-worker-secret"],
        "scheduler": [f"arn:of:lab-{role}-secret" for role in ("client", "jupyter", "scheduler")],
    }.items():
        granted = json.loads(account.inputs[f"lab-{part}-rights"]["policy"])["Statement"]
        [read] = [each for each in granted if "secretsmanager:GetSecretValue" in each["Action"]]
        assert read["Resource"] == secrets
    trusted = json.loads(account.inputs["lab-scaler-role"]["assumeRolePolicy"])["Statement"]
    assert trusted[0]["Principal"] == {"AWS": "arn:of:lab-scheduler-role"}


def test_a_network_of_the_same_program(account: Account) -> None:
    """As with `awsx.ec2.Vpc`: the VPC, its subnets and an image are Outputs."""
    network = {
        "vpc": pulumi.Output.from_input("vpc-0a1b2c3d"),
        "subnets": [
            pulumi.Output.from_input("subnet-0a1b2c3d"),
            pulumi.Output.from_input("subnet-1a1b2c3d"),
        ],
    }
    image = pulumi.Output.from_input("ami-0a1b2c3d4e5f60718")
    run(with_(network=network, image=image))
    assert not any(typ == "aws:ec2/vpc:Vpc" for typ, _ in account.made)
    placed = account.inputs["lab-cpu-instances"]["vpcZoneIdentifiers"]
    assert placed == ["subnet-0a1b2c3d", "subnet-1a1b2c3d"]
    assert account.inputs["lab-scheduler-instances"]["vpcZoneIdentifiers"] == ["subnet-0a1b2c3d"]
    assert account.inputs["lab-volume"]["availabilityZone"] == "eu-central-1b"
    assert account.inputs["lab-cpu-template"]["imageId"] == "ami-0a1b2c3d4e5f60718"


def test_a_volume_that_exists_is_taken(account: Account) -> None:
    run(with_(scheduler={"volume_id": "vol-0a1b2c3d"}))
    assert "lab-volume" not in account.inputs
    place = json.loads(account.inputs["lab-scheduler-place"]["policy"])["Statement"]
    attached = [each["Resource"] for each in place if "ec2:AttachVolume" in each["Action"]]
    assert ["arn:aws:ec2:eu-central-1:*:volume/vol-0a1b2c3d"] in attached


def test_who_is_sized_by_the_scaler_is_protected(account: Account) -> None:
    run(TREE)
    cpu, gpu = account.inputs["lab-cpu-instances"], account.inputs["lab-gpu-x-instances"]
    assert (cpu["protectFromScaleIn"], gpu["protectFromScaleIn"]) == (True, False)
    assert cpu["suspendedProcesses"] == gpu["suspendedProcesses"] == ["AZRebalance"]
    assert [decoded(each)["heartbeatTimeout"] for each in cpu["initialLifecycleHooks"]] == [
        1800.0,
        300.0,
    ]
    assert cpu["launchTemplate"]["version"] == "7"


def test_a_warm_pool_is_of_the_group_that_has_one(account: Account) -> None:
    types = ["m7i.large", "m6i.large"]
    cpu, gpu = {"warm": {"min": 2}}, {"warm": {"max_prepared": 6}, "instance_types": types}
    run(with_(workers={"cpu": cpu, "gpu-x": gpu}))
    pools = {name: account.inputs[f"lab-{name}-instances"]["warmPool"] for name in ("cpu", "gpu-x")}
    assert pools["cpu"] == {"poolState": "Stopped", "minSize": 2, "maxGroupPreparedCapacity": 2}
    assert pools["gpu-x"] == {"poolState": "Stopped", "minSize": 1, "maxGroupPreparedCapacity": 6}
    assert "launchTemplate" not in account.inputs["lab-gpu-x-instances"]
    assert "warmPool" not in account.inputs["lab-scheduler-instances"]


def test_alarms_where_there_is_a_topic(account: Account) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    run(with_(alarms={"topic": topic}))
    alarms = {name for typ, name in account.made if typ.endswith(":MetricAlarm")}
    assert alarms == {
        *("lab-scheduler-no-scheduler", "lab-scaler-drain-overdue", "lab-certificate-expiry"),
        *("lab-cpu-no-workers", "lab-cpu-drain-overdue"),
        *("lab-gpu-x-no-workers", "lab-gpu-x-drain-overdue"),
    }
    assert account.inputs["lab-cpu-no-workers"]["alarmActions"] == [topic]
    filters = [inputs for name, inputs in account.inputs.items() if name.endswith("-lines")]
    assert [each["pattern"] for each in filters] == ['"past the deadline of its drain"']
    expiry = account.inputs["lab-certificate-expiry"]
    # A fortnight before the worker's certificate ends, which is the first.
    assert expiry["threshold"] == datetime(2027, 5, 1, 12, tzinfo=UTC).timestamp()
    assert expiry["alarmActions"] == [topic]
    assert [each.get("expression") for each in expiry["metricQueries"]] == [None, "EPOCH(any)"]
    # A minute of drain, two for leaving, and five more.
    assert account.inputs["lab-cpu-drain-overdue"]["evaluationPeriods"] == 8.0


def test_there_is_an_endpoint_for_what_instances_reach(account: Account) -> None:
    run(with_(network={"endpoints": True, "zones": ["b"]}))
    found = {inputs.get("serviceName") for inputs in account.inputs.values()} - {None}
    wanted = ("autoscaling", "ec2", "logs", "s3", "secretsmanager", "ssm", "ssmmessages", "sts")
    assert found == {f"com.amazonaws.eu-central-1.{service}" for service in wanted}
