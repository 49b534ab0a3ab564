"""The vCPUs that an account may run, and those that a cluster has at its largest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perennial.aws.client import Aws
from perennial.aws.failures import AwsError
from perennial.errors import PerennialError


@dataclass(frozen=True, slots=True, order=True)
class Quota:
    """A quota of Service Quotas, counted in vCPUs."""

    service: str
    code: str
    title: str


@dataclass(frozen=True, slots=True)
class Need:
    """The vCPUs that a part of a cluster has at its largest."""

    part: str
    quota: Quota
    vcpus: float


def check(cluster: str, needs: Sequence[Need], before: Sequence[Need], aws: Aws) -> None:
    """Raise where a cluster may grow beyond a quota, and could not already before."""
    wanted = [
        quota for quota, vcpus in totals(needs).items() if vcpus > totals(before).get(quota, 0)
    ]
    held = {quota: value for quota in wanted if (value := _value(quota, aws)) is not None}
    faults = [f"{cluster}: {each}" for each in exceeded(needs, held, aws.region)]
    if faults:
        raise PerennialError("\n".join(faults))


def totals(needs: Sequence[Need]) -> dict[Quota, float]:
    """Sum up what a cluster needs of each quota. Pure."""
    found: dict[Quota, float] = {}
    for each in needs:
        found[each.quota] = found.get(each.quota, 0) + each.vcpus
    return found


def exceeded(needs: Sequence[Need], held: Mapping[Quota, float], region: str) -> Iterator[str]:
    """Say which quotas are smaller than what a cluster needs at its largest. Pure."""
    for quota, vcpus in totals(needs).items():
        if vcpus <= held.get(quota, vcpus):
            continue
        parts = ", ".join(each.part for each in needs if each.quota == quota and each.vcpus)
        yield (
            f"{parts}: up to {vcpus:g} vCPUs; allowed: {held[quota]:g} by the quota {quota.title}"
            f" ({quota.code}) in {region}; raise it in Service Quotas, lower scale.max, or add"
            " --force"
        )


def _value(quota: Quota, aws: Aws) -> float | None:
    """Ask for a quota; None where nobody says: the cluster does not depend on the answer."""
    ask = aws.client("service-quotas").get_service_quota
    about = {"ServiceCode": quota.service, "QuotaCode": quota.code}
    try:
        return float(aws.call(f"look at the quota {quota.code}", ask, **about)["Quota"]["Value"])
    except AwsError:
        return None
