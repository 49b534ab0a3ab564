"""List prices of AWS, for an estimate. They change, and differ by region: the date stands here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from perennial.aws.alarms import NAMESPACE, Rule
from perennial.aws.options import AwsNetwork

#: Where and when these were the prices; other regions cost up to a third more.
REGION, DATE = "us-east-1", "2025-06"
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
MONTHLY: Mapping[str, float] = MappingProxyType(
    {"secret": 0.40, "private domain": 0.50, "disk gib": 0.08, "alarm": 0.10, "own metric": 0.30}
)
#: USD an hour of an instance of 4 vCPUs (``xlarge``), by family.
_XLARGE: Mapping[str, float] = MappingProxyType(
    {
        **{"c5": 0.17, "c6a": 0.153, "c6g": 0.136, "c6i": 0.17, "c7a": 0.20528},
        **{"c7g": 0.145, "c7i": 0.1785, "m5": 0.192, "m6a": 0.1728, "m6g": 0.154},
        **{"m6i": 0.192, "m7a": 0.23184, "m7g": 0.1632, "m7i": 0.2016, "r5": 0.252},
        **{"r6a": 0.2268, "r6g": 0.2016, "r6i": 0.252, "r7a": 0.3043, "r7g": 0.2142},
        **{"r7i": 0.2646, "t3": 0.1664, "t3a": 0.1504, "t4g": 0.1344, "g4dn": 0.526},
        **{"g5": 1.006, "g6": 0.8048},
    }
)
#: Sizes of instances as parts of an ``xlarge``.
_SIZES: Mapping[str, float] = MappingProxyType(
    {"small": 0.125, "medium": 0.25, "large": 0.5, "xlarge": 1.0}
)
#: What Spot costs of the price on demand, about: it moves with what is free.
SPOT = 0.35


@dataclass(frozen=True, slots=True)
class Estimate:
    """USD of a month: with the fewest members that a cluster's bounds allow, and with the most."""

    least: float
    most: float
    #: Types of instances of which the table has no price.
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it as a plan shows it."""
        one, other = f"{self.least:,.0f}", f"{self.most:,.0f}"
        amount = f"{one} USD" if one == other else f"{one} to {other} USD"
        without = f", without {', '.join(self.unknown)}" if self.unknown else ""
        return (
            f"about {amount} a month by the list prices of {REGION} in {DATE}{without}; traffic,"
            " logs and taxes come on top"
        )


def instance(type_: str) -> float | None:
    """Return the price of an hour of a type on demand; None where the table has none."""
    family, _, size = type_.partition(".")
    many = re.fullmatch(r"(\d+)xlarge", size)
    share = float(many[1]) if many else _SIZES.get(size)
    price = _XLARGE.get(family)
    return None if price is None or share is None else price * share


def network(wanted: AwsNetwork, endpoints: int) -> float:
    """Estimate what a network costs a month, without what goes through it."""
    if not wanted.is_made:
        return 0.0
    zones = len(wanted.zones)
    gateways = {"none": 0, "single": 1, "per_zone": zones}[wanted.nat]
    made = endpoints * zones if wanted.endpoints else 0
    hourly = gateways * HOURLY["nat gateway"] + made * HOURLY["endpoint in a zone"]
    return hourly * MONTH


def alarms(rules: Iterable[Rule]) -> float:
    """Estimate what alarms cost a month, that of the certificates and the metric of ours too."""
    every = [*rules]
    counted = any(each.metric.namespace == NAMESPACE for each in every)
    return (len(every) + 1) * MONTHLY["alarm"] + counted * MONTHLY["own metric"]


def written(amount: float) -> str:
    """Write what a part costs."""
    return f"about {amount:,.0f} USD a month"
