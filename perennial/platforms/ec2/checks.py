"""What AWS knows to be wrong with a cluster file, before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from perennial.aws import quotas
from perennial.aws.checks import before
from perennial.aws.client import Aws, unless
from perennial.aws.failures import Cause
from perennial.errors import PerennialError
from perennial.platforms.ec2.capacity import architecture
from perennial.platforms.ec2.options import Options
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.platforms.ec2.quotas import needs, preferred
from perennial.spec import ClusterSpec


def check(spec: ClusterSpec, aws: Aws) -> None:
    """Refuse what AWS would refuse later: network, types and images, one line for each fault."""
    before(spec.name, spec.options, aws)
    zones = _zones(spec, aws)
    faults = [*_types(spec, aws, zones), *_images(spec, aws), *_volume(spec, aws, zones[0])]
    if faults:
        raise PerennialError("\n".join(f"{spec.name}: {fault}" for fault in faults))


def check_quotas(spec: ClusterSpec, earlier: ClusterSpec | None, aws: Aws) -> None:
    """Refuse a cluster that may grow beyond a quota of the account, unless it could before."""
    specs = [each for each in (spec, earlier) if each is not None]
    types = sorted({type_ for each in specs for type_ in preferred(each)})
    client = aws.client("ec2")
    listed = aws.pages(
        "look at the types of instances",
        client.describe_instance_types,
        "InstanceTypes",
        InstanceTypes=types,
    )
    vcpus = {each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for each in listed}
    quotas.compare(spec, earlier, partial(needs, vcpus=vcpus), aws)


def _zones(spec: ClusterSpec, aws: Aws) -> list[str]:
    """List the zones of the cluster, that of the scheduler first."""
    options: Options = spec.options
    wanted = options.network
    if wanted.is_made:
        return [f"{options.region}{zone}" for zone in wanted.zones]
    listed = aws.call(
        "look at the subnets", aws.client("ec2").describe_subnets, SubnetIds=[*wanted.subnets]
    )["Subnets"]
    known = {each["SubnetId"]: str(each["AvailabilityZone"]) for each in listed}
    return [known[subnet] for subnet in wanted.subnets]


def _types(spec: ClusterSpec, aws: Aws, zones: Sequence[str]) -> Iterator[str]:
    """Refuse types that no zone of the cluster offers."""
    wanted = _wanted(spec)
    every = sorted({each for types in wanted.values() for each in types})
    client = aws.client("ec2")
    offered = {
        (each["InstanceType"], each["Location"])
        for each in aws.pages(
            "list the types of instances",
            client.describe_instance_type_offerings,
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": every}],
        )
    }
    for at, types in wanted.items():
        # The scheduler's instance stands in one zone, that of its volume.
        there = zones[:1] if at.startswith(f"ec2.{SCHEDULER}") else zones
        for each in types:
            if there and not any((each, zone) in offered for zone in there):
                places = ", ".join(there)
                yield f"{at}: {each} is not offered in {places}; name another type, or other zones"


def _wanted(spec: ClusterSpec) -> dict[str, tuple[str, ...]]:
    """List the types of instances, by where they stand in the file."""
    options: Options = spec.options
    found = {
        f"ec2.workers.{name}.instance_types": options.types(name, group)
        for name, group in spec.workers.items()
    }
    return {f"ec2.{SCHEDULER}.instance_type": (options.scheduler.instance_type,), **found}


def _volume(spec: ClusterSpec, aws: Aws, zone: str) -> Iterator[str]:
    """Refuse a data volume that is not there, or where the scheduler's instance cannot have it."""
    volume = spec.options.scheduler.volume_id
    if volume is None:
        return
    look = aws.client("ec2").describe_volumes
    found = unless(Cause.MISSING, lambda: aws.call(f"look at {volume}", look, VolumeIds=[volume]))
    listed = found["Volumes"] if found else []
    at = f"ec2.{SCHEDULER}.volume_id"
    if not listed:
        yield f"{at}: {volume} is not in the region {spec.options.region}; correct it"
    elif listed[0]["AvailabilityZone"] != zone:
        have = listed[0]["AvailabilityZone"]
        yield f"{at}: {volume} is in {have}; allowed: one in {zone}, the zone of the first subnet"


def _images(spec: ClusterSpec, aws: Aws) -> Iterator[str]:
    """Refuse images that are not there, or are for another processor."""
    options: Options = spec.options
    own: Mapping[str, Any] = {
        f"ec2.{SCHEDULER}": (options.scheduler, options.scheduler.instance_type),
        **{
            f"ec2.workers.{name}": (options.group(name), types[0])
            for name, group in spec.workers.items()
            if (types := options.types(name, group))
        },
    }
    client = aws.client("ec2")
    for at, (instance, instance_type) in own.items():
        image = options.image_of(instance, instance_type)
        if not image.startswith("ami-"):
            continue
        found = unless(
            Cause.MISSING,
            lambda image=image: aws.call(  # type: ignore[misc]
                f"look at {image}", client.describe_images, ImageIds=[image]
            ),
        )
        listed = found["Images"] if found else []
        needed = architecture(instance_type)
        if not listed:
            yield f"{at}.image: {image} is not in the region {options.region}; correct it"
        elif listed[0]["Architecture"] != needed:
            have = listed[0]["Architecture"]
            yield (
                f"{at}.image: {image} is for {have}, and {instance_type} is {needed}; name an image"
                f" for {needed}, or another type"
            )
