"""What a month of a cluster on EC2 costs, from a table of list prices. Pure.

The table is of one region and one day: an estimate says so, and AWS's own calculator knows better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from perennial.platforms.ec2 import parts
from perennial.platforms.ec2.options import Instance, Options
from perennial.spec import ClusterSpec
from perennial.spec.units import GIB

#: Region and month of the table, and hours in a month.
REGION, DATE, HOURS = "us-east-1", "2025-06", 730
#: US dollars of an hour of 4 vCPUs (``xlarge``) on demand, by family.
_XLARGE = {
    "c5": 0.17, "c6a": 0.153, "c6g": 0.136, "c6i": 0.17, "c7a": 0.20528, "c7g": 0.145,
    "c7i": 0.1785,
    "m5": 0.192, "m6a": 0.1728, "m6g": 0.154, "m6i": 0.192, "m7a": 0.23184, "m7g": 0.1632,
    "m7i": 0.2016, "r5": 0.252, "r6a": 0.2268, "r6g": 0.2016, "r6i": 0.252, "r7a": 0.3043,
    "r7g": 0.2142, "r7i": 0.2646, "t3": 0.1664, "t3a": 0.1504, "t4g": 0.1344, "g4dn": 0.526,
    "g5": 1.006, "g6": 0.8048,
}  # fmt: skip
#: Sizes of instances as parts of an ``xlarge``.
_SIZES = {"small": 0.125, "medium": 0.25, "large": 0.5, "xlarge": 1.0}
#: US dollars of an hour of a NAT gateway, and of an endpoint in one zone.
_NAT, _ENDPOINT = 0.045, 0.01
#: US dollars of a month: a GB of gp3, a private zone, a secret, an alarm.
_GP3, _ZONE, _SECRET, _ALARM = 0.08, 0.50, 0.40, 0.10
#: Endpoints that instances need without NAT; see the component.
_ENDPOINTS = 7


@dataclass(frozen=True, slots=True)
class Estimate:
    """US dollars of a month: with the fewest members, and with the most."""

    least: float
    most: float
    #: Types of which the table has no price.
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it as a plan shows it."""
        one, other = f"{self.least:,.0f}", f"{self.most:,.0f}"
        amount = f"{one} US dollars" if one == other else f"{one} to {other} US dollars"
        without = f", without {', '.join(self.unknown)}" if self.unknown else ""
        return (
            f"about {amount} a month on demand, by list prices of {REGION} in {DATE}{without};"
            " traffic and logs come on top, spot costs less"
        )


def hourly(instance_type: str) -> float | None:
    """Return the price of an hour of a type; None where the table has none."""
    family, _, size = instance_type.partition(".")
    many = re.fullmatch(r"(\d+)xlarge", size)
    parts_of = float(many[1]) if many else _SIZES.get(size)
    price = _XLARGE.get(family)
    return None if price is None or parts_of is None else price * parts_of


def estimate(spec: ClusterSpec) -> Estimate:
    """Estimate a month of a cluster."""
    options: Options = spec.options
    fixed = sum(_fixed(spec))
    least = most = fixed
    unknown: list[str] = []
    kinds: list[tuple[str, Instance, int, int]] = [
        (options.scheduler.instance_type, options.scheduler, 1, 1)
    ]
    for name, group in spec.workers.items():
        types = options.types(name, group)
        bounds = (group.scale.min, group.scale.most) if group.scale else (group.count, group.count)
        if types:
            kinds.append((types[0], options.group(name), *bounds))
    for instance_type, own, few, many in kinds:
        price = hourly(instance_type)
        if price is None:
            unknown.append(instance_type)
        disk = ceil(options.disk_of(own)[1] / GIB) * _GP3
        month = (price or 0.0) * HOURS + disk
        least, most = least + few * month, most + many * month
    return Estimate(least, most, tuple(dict.fromkeys(unknown)))


def _fixed(spec: ClusterSpec) -> Iterator[float]:
    """Yield what the rest costs, whatever the groups' sizes are."""
    options: Options = spec.options
    network = options.network
    yield options.scheduler.volume / GIB * _GP3
    yield _ZONE
    yield len(parts.contents(spec)) * _SECRET
    if options.alarms is not None:
        yield (1 + 2 * len(spec.workers)) * _ALARM
    if network.is_made:
        gateways = {"none": 0, "single": 1, "per_zone": len(network.zones)}[network.nat]
        yield gateways * _NAT * HOURS
        if network.endpoints:
            yield _ENDPOINTS * len(network.zones) * _ENDPOINT * HOURS
