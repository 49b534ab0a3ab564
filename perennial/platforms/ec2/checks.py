"""What AWS knows to be wrong with a cluster file, before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perennial.aws import names
from perennial.aws.client import Aws, unless
from perennial.aws.failures import Cause
from perennial.errors import PerennialError
from perennial.platforms.ec2.capacity import architecture
from perennial.platforms.ec2.options import Options
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.spec import ClusterSpec


def check(spec: ClusterSpec, aws: Aws, fresh: bool) -> None:
    """Refuse what AWS would refuse later, all of it at once, one line each."""
    aws.account()
    zones: dict[str, str] = {}
    faults = [*_network(spec, aws, zones)]
    faults += _types(spec, aws, sorted(set(zones.values())))
    faults += _images(spec, aws)
    if fresh:
        faults += _stands(spec, aws)
    if faults:
        raise PerennialError("\n".join(f"{spec.name}: {fault}" for fault in faults))


def _network(spec: ClusterSpec, aws: Aws, zones: dict[str, str]) -> Iterator[str]:
    """Look at the given VPC and its subnets; note the zone of each."""
    options: Options = spec.options
    wanted = options.network
    if wanted.vpc is None:
        zones.update({zone: f"{options.region}{zone}" for zone in wanted.zones})
        return
    client = aws.client("ec2")
    listed = [
        *aws.pages(
            "look at the subnets",
            client.describe_subnets,
            "Subnets",
            Filters=[{"Name": "subnet-id", "Values": [*wanted.subnets]}],
        )
    ]
    found = {each["SubnetId"]: each for each in listed}
    zones.update({subnet: each["AvailabilityZone"] for subnet, each in found.items()})
    for place, subnet in enumerate(wanted.subnets):
        at = f"ec2.network.subnets[{place}]"
        if subnet not in found:
            yield f"{at}: {subnet} is not in the region {options.region}; correct it"
        elif found[subnet]["VpcId"] != wanted.vpc:
            other = found[subnet]["VpcId"]
            yield f"{at}: {subnet} belongs to {other}, not to {wanted.vpc}; correct one of them"


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


def _stands(spec: ClusterSpec, aws: Aws) -> Iterator[str]:
    """Refuse a name that a cluster in this account and region has already."""
    client = aws.client("autoscaling")
    name = names.name_of(spec.name, SCHEDULER)
    found = aws.call(
        "look for another cluster of this name",
        client.describe_auto_scaling_groups,
        AutoScalingGroupNames=[name],
    )["AutoScalingGroups"]
    if found:
        yield (
            f"the region {spec.options.region} has a cluster {spec.name} already: the Auto Scaling"
            f" group {name}; give this one another name, or use that one with `perennial attach`"
        )
