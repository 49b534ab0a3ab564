"""The vCPUs of a cluster on Fargate at its largest, by the quotas that they count against. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.aws.quotas import Need, Quota
from perennial.platforms.fargate.parts import options_of, parts
from perennial.platforms.fargate.sizes import UNITS
from perennial.spec import ClusterSpec

ON_DEMAND = Quota("fargate", "L-3032A538", "Fargate On-Demand vCPU resource count")
SPOT = Quota("fargate", "L-36FBB829", "Fargate Spot vCPU resource count")


def needs(spec: ClusterSpec) -> Iterator[Need]:
    """List what each part needs."""
    for part in parts(spec):
        most, on_spot = 1, 0
        if part.service.group is not None:
            own, most = options_of(spec).group(part.key), spec.workers[part.key].most
            on_spot = max(0, most - own.base) * own.spot // (own.spot + own.on_demand)
        vcpus = part.size.cpu / UNITS
        yield Need(part.key, ON_DEMAND, (most - on_spot) * vcpus)
        yield Need(part.key, SPOT, on_spot * vcpus)
