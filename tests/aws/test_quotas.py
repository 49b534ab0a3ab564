"""Quotas: what a cluster needs at its largest, and what is said where that is more."""

from __future__ import annotations

from typing import Any

import pytest

from perennial.aws.client import Aws
from perennial.aws.options import AwsNetwork
from perennial.aws.quotas import ADDRESSES, VPCS, Need, Quota, Room, check, exceeded, totals
from perennial.aws.quotas import network as of_network
from perennial.errors import PerennialError
from perennial.platforms.ec2.quotas import needs as on_ec2
from perennial.platforms.ec2.quotas import quotas
from perennial.platforms.fargate.quotas import ON_DEMAND, SPOT
from perennial.platforms.fargate.quotas import needs as on_fargate
from perennial.spec import ClusterSpec, loads
from perennial.stacks.inputs import dumped
from tests.labs.aws.lab import Lab
from tests.stacks import test_ec2, test_fargate

REGION = "eu-central-1"


def spec(tree: dict[str, Any], platform: str, **own: Any) -> ClusterSpec:
    return loads(dumped({"platform": platform, **tree, platform: {**tree[platform], **own}}))


@pytest.mark.parametrize(
    ("type_", "codes"),
    [
        ("m7i.large", ["L-1216C47A", "L-34B43A08"]),
        ("im4gn.large", ["L-1216C47A", "L-34B43A08"]),
        ("g6e.xlarge", ["L-DB2E81BA", "L-3819A6DF"]),
        ("p5.48xlarge", ["L-417A185B", "L-7212CCBC"]),
        ("inf2.xlarge", ["L-1945791B", "L-B5D1601B"]),
        ("u-6tb1.metal", []),
    ],
)
def test_a_type_counts_against_the_quotas_of_its_kind(type_: str, codes: list[str]) -> None:
    assert [each.code for each in quotas(type_)] == codes


def test_spot_counts_beside_what_is_on_demand() -> None:
    workers = {"gpu-x": {"instance_types": ["g6.xlarge", "g5.xlarge"], "spot": {"share": 50}}}
    vcpus = {"m7i.large": 2, "m7i.xlarge": 4, "g6.xlarge": 4}
    found = totals([*on_ec2(spec(test_ec2.TREE, "ec2", workers=workers), vcpus)])
    assert {quota.code: count for quota, count in found.items()} == {
        "L-1216C47A": 2 + 3 * 2,  # the scheduler, and three of cpu
        "L-34B43A08": 0,
        "L-DB2E81BA": 4,
        "L-3819A6DF": 4,
    }


def test_tasks_count_by_their_processors() -> None:
    workers = {"cpu": {"base": 1, "on_demand": 0, "spot": 1}}
    found = totals([*on_fargate(spec(test_fargate.TREE, "fargate", workers=workers))])
    # One of cpu, two of gpu-x, the scheduler, JupyterLab and the scaler; two of cpu on Spot.
    assert found == {ON_DEMAND: 2 + 2 * 1 + 1 + 1 + 0.25, SPOT: 2 * 2}


@pytest.mark.parametrize(
    ("network", "counts"),
    [
        ({}, {VPCS: 1, ADDRESSES: 1}),
        ({"nat": "per_zone", "zones": ["a", "b", "c"]}, {VPCS: 1, ADDRESSES: 3}),
        ({"nat": "none", "endpoints": True}, {VPCS: 1, ADDRESSES: 0}),
        ({"vpc": "vpc-0a1b2c3d", "subnets": ["subnet-0a1b2c3d"]}, {}),
    ],
)
def test_a_network_that_is_made_counts(network: dict[str, Any], counts: dict[Quota, int]) -> None:
    assert totals([*of_network(AwsNetwork(**network))]) == counts


def test_what_is_said_names_the_parts_and_the_quota() -> None:
    quota = Quota("ec2", "L-1216C47A", "Running On-Demand Standard instances")
    needs = [Need("cpu", quota, 48), Need("gpu", quota, 0), Need("batch", quota, 160)]
    assert list(exceeded(needs, {quota: Room(64)}, REGION)) == [
        "cpu, batch: up to 208 vCPUs; allowed: 64 by the quota Running On-Demand Standard instances"
        " (L-1216C47A) in eu-central-1; raise it in Service Quotas, lower scale.max, or add --force"
    ]
    assert list(exceeded(needs, {quota: Room(208)}, REGION)) == []
    assert list(exceeded(needs, {}, REGION)) == []


@pytest.mark.usefixtures("aws")
def test_only_growth_beyond_a_quota_is_refused() -> None:
    before, after = [Need("cpu", SPOT, 200)], [Need("cpu", SPOT, 300)]
    with pytest.raises(PerennialError, match=r"^lab: cpu: up to 300 vCPUs; allowed: 128 by"):
        check("lab", after, before, Aws(REGION))
    check("lab", after, after, Aws(REGION))
    check("lab", before, after, Aws(REGION))
    check("lab", [Need("cpu", SPOT, 128)], [], Aws(REGION))


def test_a_quota_that_nobody_tells_is_not_compared(aws: Lab) -> None:
    unknown = Quota("ec2", "L-417A185B", "Running On-Demand P instances")
    check("lab", [Need("gpu", unknown, 1000)], [], Aws(REGION))
    assert [each.operation for each in aws.calls()] == ["GetServiceQuota"]


def test_what_stays_in_an_account_counts_beside_a_cluster(aws: Lab) -> None:
    ec2 = aws.client("ec2")
    there = len(ec2.describe_vpcs()["Vpcs"])
    made = [ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"] for _ in range(there, 5)]
    wanted = [Need("network", VPCS, 1), Need("network", ADDRESSES, 1)]
    try:
        with pytest.raises(PerennialError) as refused:
            check("lab", wanted, [], Aws(REGION))
        # One that has a network keeps it.
        check("lab", wanted, wanted, Aws(REGION))
    finally:
        for each in made:
            ec2.delete_vpc(VpcId=each)
    assert str(refused.value) == (
        "lab: network: up to 1 VPC beside 5 that exist; allowed: 5 by the quota VPCs per Region"
        " (L-F678F1CE) in eu-central-1; raise it in Service Quotas, name a network that exists:"
        " network.vpc, or add --force"
    )
    check("lab", wanted, [], Aws(REGION))
