"""What an account may have of what a cluster is made of, and how much a cluster has of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perennial.aws.client import Aws
from perennial.aws.failures import AwsError
from perennial.aws.options import AwsNetwork
from perennial.errors import PerennialError
from perennial.spec import ClusterSpec


@dataclass(frozen=True, slots=True, order=True)
class Quota:
    """A quota of Service Quotas."""

    service: str
    code: str
    title: str
    unit: str = "vCPU"
    #: What else than a greater quota helps.
    instead: str = "lower scale.max"


@dataclass(frozen=True, slots=True)
class Need:
    """How much of a quota a part of a cluster has at its largest."""

    part: str
    quota: Quota
    count: float


@dataclass(frozen=True, slots=True)
class Room:
    """A quota's value, and how much of that others have, as far as it is counted."""

    value: float
    used: int = 0


_INSTEAD = "name a network that exists: network.vpc"
VPCS = Quota("vpc", "L-F678F1CE", "VPCs per Region", "VPC", _INSTEAD)
ADDRESSES = Quota("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", "Elastic IP", _INSTEAD)
#: Of what stays in an account the operation of EC2 that lists it, and its key. Instances and tasks
#: come and go, so theirs is compared with the quota alone.
_LISTED = {VPCS: ("describe_vpcs", "Vpcs"), ADDRESSES: ("describe_addresses", "Addresses")}


def network(options: AwsNetwork) -> Iterator[Need]:
    """List what a network needs that is made with the cluster. Pure."""
    if options.is_made:
        gateways = {"none": 0, "single": 1, "per_zone": len(options.zones)}[options.nat]
        yield Need("network", VPCS, 1)
        yield Need("network", ADDRESSES, gateways)


def compare(
    spec: ClusterSpec,
    earlier: ClusterSpec | None,
    needs: Callable[[ClusterSpec], Iterable[Need]],
    aws: Aws,
) -> None:
    """Refuse a cluster that may grow beyond a quota with its network, unless it could before."""
    wanted, had = (
        [*needs(each), *network(each.options.network)] if each is not None else []
        for each in (spec, earlier)
    )
    check(spec.name, wanted, had, aws)


def check(cluster: str, needs: Sequence[Need], before: Sequence[Need], aws: Aws) -> None:
    """Raise where a cluster may grow beyond a quota, and could not already before."""
    had = totals(before)
    wanted = [quota for quota, count in totals(needs).items() if count > had.get(quota, 0)]
    rooms = {
        quota: room
        for quota in wanted
        if (room := _room(quota, had.get(quota, 0), aws)) is not None
    }
    faults = [f"{cluster}: {each}" for each in exceeded(needs, rooms, aws.region)]
    if faults:
        raise PerennialError("\n".join(faults))


def totals(needs: Sequence[Need]) -> dict[Quota, float]:
    """Sum up what a cluster needs of each quota. Pure."""
    found: dict[Quota, float] = {}
    for each in needs:
        found[each.quota] = found.get(each.quota, 0) + each.count
    return found


def exceeded(needs: Sequence[Need], rooms: Mapping[Quota, Room], region: str) -> Iterator[str]:
    """Say which quotas are smaller than what a cluster needs at its largest. Pure."""
    for quota, count in totals(needs).items():
        room = rooms.get(quota)
        if room is None or count + room.used <= room.value:
            continue
        parts = ", ".join(each.part for each in needs if each.quota == quota and each.count)
        beside = f" beside {room.used} that exist" if room.used else ""
        yield (
            f"{parts}: up to {count:g} {quota.unit}{'s' * (count != 1)}{beside};"
            f" allowed: {room.value:g} by the quota {quota.title} ({quota.code}) in {region};"
            f" raise it in Service Quotas, {quota.instead}, or add --force"
        )


def _room(quota: Quota, own: float, aws: Aws) -> Room | None:
    """Ask for a quota, and what of it is not the cluster's own.

    None where nobody says: the cluster does not depend on the answer.
    """
    ask = aws.client("service-quotas").get_service_quota
    about = {"ServiceCode": quota.service, "QuotaCode": quota.code}
    try:
        told = aws.call(f"look at the quota {quota.code}", ask, **about)
        used = 0
        if quota in _LISTED:
            operation, key = _LISTED[quota]
            ask = getattr(aws.client("ec2"), operation)
            used = len(aws.call(f"count {quota.unit}s", ask)[key]) - int(own)
        return Room(float(told["Quota"]["Value"]), max(0, used))
    except AwsError:
        return None
