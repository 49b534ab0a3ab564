"""List prices of AWS, for an estimate. They change, and differ by region: the date stands here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from perennial.aws.options import AwsNetwork

#: Where and when these were the prices; other regions cost up to a third more.
REGION, DATE = "us-east-1", "2026-03"
#: Hours of a month.
MONTH = 730

#: USD an hour.
HOURLY: Mapping[str, float] = MappingProxyType(
    {
        "nat gateway": 0.045,
        "endpoint in a zone": 0.01,
        "network load balancer": 0.0225,
        "fargate vcpu": 0.04048,
        "fargate gib": 0.004445,
        "fargate vcpu arm64": 0.03238,
        "fargate gib arm64": 0.00356,
        "fargate disk gib": 0.000111,
    }
)
#: USD a month.
MONTHLY: Mapping[str, float] = MappingProxyType({"secret": 0.40, "private domain": 0.50})
#: What Spot costs of the price on demand, about: it moves with what is free.
SPOT = 0.35


def network(wanted: AwsNetwork, endpoints: int) -> float:
    """Estimate what a network costs a month, without what goes through it."""
    if not wanted.is_made:
        return 0.0
    zones = len(wanted.zones)
    gateways = {"none": 0, "single": 1, "per_zone": zones}[wanted.nat]
    made = endpoints * zones if wanted.endpoints else 0
    hourly = gateways * HOURLY["nat gateway"] + made * HOURLY["endpoint in a zone"]
    return hourly * MONTH


def written(amount: float) -> str:
    """Write an estimate."""
    return f"about {amount:,.0f} USD a month"
