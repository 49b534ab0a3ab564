"""Options of AWS's, and names within the limits of its APIs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from perennial.aws import names
from perennial.aws.options import AwsOptions

PARTS = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)

VPC = "vpc-0a1b2c3d"
SUBNETS = ["subnet-0a1b2c3d"]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"vpc": VPC}, "one or more subnets of the VPC"),
    ({"subnets": SUBNETS}, "a VPC with its subnets"),
    ({"vpc": "lab", "subnets": SUBNETS}, "the number of a VPC"),
    ({"vpc": VPC, "subnets": SUBNETS, "nat": "single"}, "nothing beside vpc"),
    ({"nat": "none"}, "true where nat is none"),
    ({"zones": ["a", "a"]}, "each letter once"),
    ({"cidr": "10.0.0.0/8"}, "/16 to /22"),
    ({"cidr": "10.0.0.1/16"}, "the first address"),
    ({"clients": ["0.0.0.0/0"]}, "networks of your own"),
    ({"clients": ["10.0.0.0/8", "1.2.3.4/0"]}, "networks of your own"),
]


@pytest.mark.parametrize(("network", "allowed"), REFUSED)
def test_a_network_that_cannot_be(network: dict[str, Any], allowed: str) -> None:
    with pytest.raises(ValidationError, match=allowed):
        AwsOptions(region="eu-central-1", network=network)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"vpc": VPC, "subnets": SUBNETS},
        {"nat": "none", "endpoints": True},
        {"clients": ["10.0.0.0/8", "sg-0a1b2c3d"]},
    ],
)
def test_a_network_that_can(network: dict[str, Any]) -> None:
    options = AwsOptions(region="eu-central-1", network=network)  # type: ignore[arg-type]
    assert options.network.is_made is ("vpc" not in network)


@given(PARTS, PARTS, PARTS, PARTS)
def test_no_two_parts_share_a_name(one: str, part: str, other: str, another: str) -> None:
    for longest in (names.LOAD_BALANCER, names.ROLE, names.USUAL):
        first, second = names.name_of(one, part, longest), names.name_of(other, another, longest)
        assert len(first) <= longest
        assert first.startswith("perennial-")
        assert not first.endswith("-")
        assert (first == second) is ((one, part) == (other, another))


def test_a_role_is_of_one_region() -> None:
    assert names.role_name("lab", "eu-west-1", "worker") != names.role_name(
        "lab", "eu-west-2", "worker"
    )
    assert len(names.role_name("l" * 40, "ap-southeast-1", "execution")) <= names.ROLE


def test_nobody_overrides_our_tags() -> None:
    found = names.tags("lab", "cpu", {"team": "x", names.CLUSTER: "other"}, "cpu")
    assert found[names.CLUSTER] == "lab"
    assert found[names.GROUP] == "cpu"
    assert found["team"] == "x"
