"""What is refused before anything is made, on moto: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from perennial.aws.checks import before, refuse_strangers
from perennial.aws.client import Aws
from perennial.aws.options import AwsOptions
from perennial.errors import PerennialError
from perennial.spec import load
from tests.labs.aws.lab import ROOT, Lab

REGION = "eu-central-1"


def options(**network: Any) -> AwsOptions:
    return AwsOptions(region=REGION, network=network)  # type: ignore[arg-type]


@pytest.fixture
def place(aws: Lab) -> dict[str, str]:
    """Two VPCs, with a subnet and a security group in each."""
    ec2, found = aws.client("ec2"), {}
    for name, cidr in (("one", "10.1.0.0/16"), ("two", "10.2.0.0/16")):
        vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        found[name] = vpc
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr.replace("/16", "/24"))
        found[f"{name}-subnet"] = subnet["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)
        found[f"{name}-group"] = group["GroupId"]
    return found


def test_what_is_there_is_let_pass(place: dict[str, str]) -> None:
    given = options(
        vpc=place["one"], subnets=[place["one-subnet"]], security_groups=[place["one-group"]]
    )
    assert before("lab", given, Aws(REGION)) == "123456789012"


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"vpc": "vpc-00000000", "subnets": ["subnet-00000000"]}, "no VPC vpc-00000000 in eu-"),
        ({"vpc": "one", "subnets": ["subnet-00000000"]}, "no subnet-00000000 in eu-central-1"),
        ({"vpc": "one", "subnets": ["two-subnet"]}, "is in vpc-.*; allowed: those of vpc-"),
        (
            {"vpc": "one", "subnets": ["one-subnet"], "security_groups": ["two-group"]},
            "network.security_groups: sg-.* is in vpc-",
        ),
        ({"zones": ["g"]}, r"network\.zones: found g; allowed in eu-central-1 .*: a, b, c"),
    ],
)
def test_what_is_not_there(place: dict[str, str], network: dict[str, Any], said: str) -> None:
    known = {
        key: [place.get(each, each) for each in value]
        if isinstance(value, list)
        else place.get(value, value)
        for key, value in network.items()
    }
    with pytest.raises(PerennialError, match=f"^lab: .*{said}") as found:
        before("lab", options(**known), Aws(REGION))
    assert str(found.value).count("\n") == 0


def test_a_cluster_of_somebody_else(aws: Lab) -> None:
    refuse_strangers("lab", Aws(REGION))
    client = aws.client("ecs")
    tags = [{"key": "perennial:cluster", "value": "lab"}]
    client.create_cluster(clusterName="there", tags=tags)
    with pytest.raises(PerennialError, match=r"lab: arn:aws:ecs:.*has not made it"):
        refuse_strangers("lab", Aws(REGION))
    refuse_strangers("other", Aws(REGION))
    client.delete_cluster(cluster="there")
    refuse_strangers("lab", Aws(REGION))


def test_an_instance_that_has_ended_is_nobodys(aws: Lab) -> None:
    client = aws.client("ec2")
    image = client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"Key": "perennial:cluster", "Value": "lab"}]
    made = client.run_instances(
        ImageId=image,
        InstanceType="m7i.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    instance = made["Instances"][0]["InstanceId"]
    with pytest.raises(PerennialError, match=f"lab: arn:aws:ec2:.*{instance} is there"):
        refuse_strangers("lab", Aws(REGION))
    client.terminate_instances(InstanceIds=[instance])
    refuse_strangers("lab", Aws(REGION))


def tagged(arn: str, part: str) -> dict[str, Any]:
    told = {"perennial:cluster": "lab", "perennial:part": part}
    return {"ResourceARN": arn, "Tags": [{"Key": key, "Value": told[key]} for key in told]}


def list_resources(monkeypatch: pytest.MonkeyPatch, *found: dict[str, Any]) -> None:
    """Have the tags' API list what moto's does not."""
    monkeypatch.setattr(Aws, "pages", lambda *_, **__: iter(found))


def test_a_nat_gateway_that_is_deleted_is_nobodys(
    aws: Lab, place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = aws.client("ec2")
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    made = ec2.create_nat_gateway(SubnetId=place["one-subnet"], AllocationId=address)
    gateway = made["NatGateway"]["NatGatewayId"]
    arn = f"arn:aws:ec2:{REGION}:123456789012:natgateway/"
    unknown = tagged(f"{arn}nat-00000000", "network")
    list_resources(monkeypatch, unknown, tagged(f"{arn}{gateway}", "network"))
    with pytest.raises(PerennialError, match=f"{gateway} is there"):
        refuse_strangers("lab", Aws(REGION))
    ec2.delete_nat_gateway(NatGatewayId=gateway)
    refuse_strangers("lab", Aws(REGION))


def test_logs_that_were_kept_are_to_be_removed(aws: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = tagged(f"arn:aws:logs:{REGION}:123456789012:log-group:/perennial/lab", "logs")
    list_resources(monkeypatch, logs)
    command = f"aws logs delete-log-group --region {REGION} --log-group-name /perennial/lab"
    with pytest.raises(PerennialError, match=command):
        refuse_strangers("lab", Aws(REGION))
    aws.client("ecs").create_cluster(clusterName="there")
    cluster = tagged(f"arn:aws:ecs:{REGION}:123456789012:cluster/there", "cluster")
    list_resources(monkeypatch, logs, cluster)
    with pytest.raises(PerennialError, match="cluster/there is there"):
        refuse_strangers("lab", Aws(REGION))


@pytest.mark.parametrize("platform", ["ec2", "fargate"])
def test_the_last_lines_of_down_say_how_logs_are_removed(platform: str) -> None:
    found = load(ROOT / f"examples/{platform}.yaml")
    kept = import_module(f"perennial.platforms.{platform}.deployer").kept
    command = f"`aws logs delete-log-group --region {found.options.region} --log-group-name"
    assert not any(command in line for line in kept(found))
    logs = found.options.logs.model_copy(update={"keep": True})
    own = found.model_copy(update={platform: found.options.model_copy(update={"logs": logs})})
    [line] = [line for line in kept(own) if command in line]
    assert f"/perennial/{found.name}` removes them" in line
