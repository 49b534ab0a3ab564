"""What a cluster on EC2 costs a month, about. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from perennial.aws import prices
from perennial.aws.prices import MONTHLY, Estimate
from perennial.platforms.ec2 import parts
from perennial.platforms.ec2.alarms import rules
from perennial.platforms.ec2.options import GroupInstances, Instance, Options
from perennial.sizes import least
from perennial.spec import ClusterSpec
from perennial.spec.units import GIB

#: Services of AWS that an instance calls, for endpoints of a VPC without NAT.
ENDPOINTS = ("autoscaling", "ec2", "logs", "secretsmanager", "ssm", "ssmmessages", "sts")


def estimate(spec: ClusterSpec) -> Estimate:
    """Estimate a month of a cluster on demand, with the fewest and the most members."""
    options: Options = spec.options
    least = most = sum(_fixed(spec))
    unknown: list[str] = []
    for type_, own, few, many in _instances(spec):
        price = prices.instance(type_)
        if price is None:
            unknown.append(type_)
        disk = ceil(options.disk_of(own)[1] / GIB) * MONTHLY["disk gib"]
        month = (price or 0.0) * prices.MONTH + disk
        least, most = least + few * month, most + many * month
        if isinstance(own, GroupInstances) and own.warm is not None:  # stopped: disks alone
            least, most = least + own.warm.size(few) * disk, most + own.warm.size(many) * disk
    return Estimate(least, most, tuple(dict.fromkeys(unknown)))


def _instances(spec: ClusterSpec) -> Iterator[tuple[str, Instance, int, int]]:
    """Yield each type, what is said of it, and how many of it there are: the fewest, the most."""
    options: Options = spec.options
    yield options.scheduler.instance_type, options.scheduler, 1, 1
    for name, group in spec.workers.items():
        if types := options.types(name, group):
            yield types[0], options.group(name), least(group), group.most


def _fixed(spec: ClusterSpec) -> Iterator[float]:
    """Yield what the rest costs, whatever the groups' sizes are."""
    options: Options = spec.options
    if options.scheduler.volume_id is None:
        yield options.scheduler.volume / GIB * MONTHLY["disk gib"]
    yield MONTHLY["private domain"]
    yield len(parts.contents(spec)) * MONTHLY["secret"]
    if options.alarms is not None:
        yield prices.alarms(rules(spec))
    yield prices.network(options.network, len(ENDPOINTS))
