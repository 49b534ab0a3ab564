"""The vCPUs of a cluster on EC2 at its largest, by the quotas that they count against. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from perennial.aws.quotas import Need, Quota
from perennial.platforms.ec2.options import Options
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.spec import ClusterSpec

#: Letters with which types of one kind begin → the kind, and its quotas on demand and on spot.
_KINDS = (
    (r"a|c|d|h|i|im|is|m|r|t|z", "Standard", "L-1216C47A", "L-34B43A08"),
    (r"g|gr|vt", "G and VT", "L-DB2E81BA", "L-3819A6DF"),
    (r"p", "P", "L-417A185B", "L-7212CCBC"),
    (r"inf", "Inf", "L-1945791B", "L-B5D1601B"),
    (r"trn", "Trn", "L-2C3B7624", "L-6B0D517C"),
)


def needs(spec: ClusterSpec, vcpus: Mapping[str, int]) -> Iterator[Need]:
    """List what each part needs, by the vCPUs of the type that it prefers."""
    options: Options = spec.options
    yield from _needs(SCHEDULER, options.scheduler.instance_type, (1, 0), vcpus)
    for name, group in spec.workers.items():
        spot, most = options.group(name).spot, group.most
        on_spot = max(0, most - spot.base) * spot.share // 100 if spot else 0
        yield from _needs(name, options.types(name, group)[0], (most - on_spot, on_spot), vcpus)


def preferred(spec: ClusterSpec) -> set[str]:
    """List the types of instances that parts prefer."""
    options: Options = spec.options
    groups = (options.types(name, group)[0] for name, group in spec.workers.items())
    return {options.scheduler.instance_type, *groups}


def _needs(
    part: str, type_: str, members: tuple[int, int], vcpus: Mapping[str, int]
) -> Iterator[Need]:
    for quota, count in zip(quotas(type_), members, strict=False):
        yield Need(part, quota, count * vcpus.get(type_, 0))


def quotas(type_: str) -> tuple[Quota, ...]:
    """Return the quotas of a type, on demand and on spot; none for a kind that is not known."""
    family = re.match(r"[a-z]+", type_)
    for letters, kind, on_demand, spot in _KINDS:
        if family and re.fullmatch(letters, family[0]):
            return (
                Quota("ec2", on_demand, f"Running On-Demand {kind} instances"),
                Quota("ec2", spot, f"All {kind} Spot Instance Requests"),
            )
    return ()
