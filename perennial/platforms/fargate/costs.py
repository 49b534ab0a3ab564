"""What a cluster on Fargate costs a month, about. Pure."""

from __future__ import annotations

from perennial.aws import prices
from perennial.aws.prices import Estimate
from perennial.platforms.fargate.alarms import rules
from perennial.platforms.fargate.parts import Part, count, options_of, parts
from perennial.sizes import least
from perennial.spec import ClusterSpec

#: GiB of disk that cost nothing.
FREE_DISK = 20
#: Endpoints of what tasks reach, where there is no NAT.
ENDPOINTS = ("ecr.api", "ecr.dkr", "ecs", "logs", "secretsmanager", "ssmmessages")


def of_task(spec: ClusterSpec, part: Part, spot: bool = False) -> float:
    """Estimate what one task costs a month."""
    kind = " arm64" if options_of(spec).architecture == "arm64" else ""
    cpu = part.size.cpu / 1024 * prices.HOURLY[f"fargate vcpu{kind}"]
    memory = part.size.memory / 1024 * prices.HOURLY[f"fargate gib{kind}"]
    disk = max(0, (part.task.ephemeral_storage or FREE_DISK) - FREE_DISK)
    hourly = (cpu + memory) * (prices.SPOT if spot else 1)
    return (hourly + disk * prices.HOURLY["fargate disk gib"]) * prices.MONTH


def of_part(spec: ClusterSpec, part: Part, members: int | None = None) -> float:
    """Estimate what the tasks of a part cost a month, at its first size or at another one."""
    size = count(spec, part) if members is None else members
    if part.service.group is None:
        return size * of_task(spec, part)
    own = options_of(spec).group(part.key)
    free = max(0, size - own.base)
    on_spot = free * own.spot / (own.spot + own.on_demand)
    return (size - on_spot) * of_task(spec, part) + on_spot * of_task(spec, part, spot=True)


def of_ground(spec: ClusterSpec) -> float:
    """Estimate what a cluster costs a month beside its tasks."""
    options = options_of(spec)
    roles = len({part.service.role for part in parts(spec)})
    fixed = roles * prices.MONTHLY["secret"] + prices.MONTHLY["private domain"]
    balancer = prices.HOURLY["network load balancer"] * prices.MONTH
    made = prices.network(options.network, len(ENDPOINTS))
    alarms = prices.alarms(rules(spec)) if options.alarms is not None else 0
    return fixed + made + alarms + (balancer if options.load_balancer else 0)


def estimate(spec: ClusterSpec) -> Estimate:
    """Estimate a month of a cluster, with the fewest and the most members of its groups."""
    ground = of_ground(spec)
    least, most = (
        ground + sum(of_part(spec, part, _members(spec, part, most)) for part in parts(spec))
        for most in (False, True)
    )
    return Estimate(least, most)


def _members(spec: ClusterSpec, part: Part, most: bool) -> int | None:
    group = spec.workers.get(part.key)
    if group is None:
        return None
    return group.most if most else least(group)
