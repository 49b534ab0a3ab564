"""An estimate of a month's cost, from the table of prices."""

from __future__ import annotations

import pytest

from perennial.aws.options import AwsNetwork
from perennial.aws.prices import HOURLY, MONTH, network
from perennial.platforms.fargate.costs import estimate, of_part, of_task
from tests.platforms.fargate.test_tasks import by_key, spec


def test_a_task_costs_its_processors_and_its_memory() -> None:
    cluster = spec(fargate__architecture="x86_64")
    scheduler = by_key(cluster)["scheduler"]  # 1 vCPU with 4 GiB
    assert of_task(cluster, scheduler) == pytest.approx((0.04048 + 4 * 0.004445) * MONTH)
    assert of_task(spec(), by_key(spec())["scheduler"]) < of_task(cluster, scheduler)


def test_spot_is_cheaper_but_for_its_base() -> None:
    cluster = spec(fargate__workers__cpu={"base": 1, "on_demand": 0, "spot": 1})
    part = by_key(cluster)["cpu"]
    one, more = of_part(cluster, part, 1), of_part(cluster, part, 3)
    assert one == pytest.approx(of_task(cluster, part))
    assert more == pytest.approx(one + 2 * of_task(cluster, part, spot=True))
    assert of_part(cluster, part, 0) == 0


@pytest.mark.parametrize(
    ("wanted", "hourly"),
    [
        ({}, HOURLY["nat gateway"]),
        ({"nat": "per_zone", "zones": ["a", "b", "c"]}, 3 * HOURLY["nat gateway"]),
        ({"nat": "none", "endpoints": True}, 12 * HOURLY["endpoint in a zone"]),
        ({"vpc": "vpc-0a1b2c3d", "subnets": ["subnet-0a1b2c3d"]}, 0),
    ],
)
def test_a_network_costs_its_gateways(wanted: dict[str, object], hourly: float) -> None:
    found = network(AwsNetwork(**wanted), 6)  # type: ignore[arg-type]
    assert found == pytest.approx(hourly * MONTH)


def test_the_estimate_names_the_bounds_and_the_date() -> None:
    said = str(estimate(spec()))
    assert said.startswith("about ")
    assert " USD a month by the list prices of us-east-1 in 2025-06" in said
    assert " to " in said.partition(" USD")[0]
    fixed = estimate(spec(workers__cpu__scale=None))
    assert fixed.least == fixed.most
