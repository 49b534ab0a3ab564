"""What a cluster on Fargate costs a month, about. Pure."""

from __future__ import annotations

from perennial.aws import prices
from perennial.platforms.fargate.parts import Part, count, options_of, parts
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
    return fixed + made + (balancer if options.load_balancer else 0)


def estimate(spec: ClusterSpec) -> str:
    """Say what a cluster costs, at its first sizes and at its largest."""
    every, ground = parts(spec), of_ground(spec)
    first = ground + sum(of_part(spec, part) for part in every)
    most = ground + sum(
        of_part(spec, part, spec.workers[part.key].most if part.service.group else None)
        for part in every
    )
    up_to = f", {most:,.0f} USD with all members that its bounds allow" if most > first else ""
    return (
        f"{prices.written(first)}{up_to}; list prices of {prices.REGION} of {prices.DATE}, without"
        " traffic, logs and taxes"
    )
