"""What is asked of AWS before anything is made: each refusal is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from perennial.aws import names
from perennial.aws.client import Aws, unless
from perennial.aws.failures import Cause
from perennial.aws.kept import removal
from perennial.aws.options import AwsOptions
from perennial.errors import PerennialError


def before(cluster: str, options: AwsOptions, aws: Aws) -> str:
    """Raise where something that the file names is not there; return the number of the account."""
    account = aws.account()
    faults = [*_network(options, aws), *_file_system(options, aws)]
    if faults:
        raise PerennialError("\n".join(f"{cluster}: {fault}" for fault in faults))
    return account


def refuse_strangers(cluster: str, aws: Aws) -> None:
    """Raise where a cluster of this name is there, and not by `perennial up` of this user."""
    call = aws.client("resourcegroupstaggingapi").get_resources
    wanted = [{"Key": names.CLUSTER, "Values": [cluster]}]
    found = aws.pages(
        f"look for a cluster {cluster}", call, "ResourceTagMappingList", TagFilters=wanted
    )
    kept = False
    for each in found:
        arn, tags = str(each["ResourceARN"]), {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        if tags.get(names.PART) == "notebooks" or ":task-definition/" in arn:
            continue  # they stay when a cluster is taken down, or AWS keeps them for a while
        if tags.get(names.PART) == "logs":
            kept = True
        elif not _is_gone(arn, aws):
            raise PerennialError(
                f"{cluster}: {arn} is there, and `perennial up` here has not made it; take that"
                " cluster down where it was made, or give this one another name"
            )
    if kept:  # alone, they are of a cluster that was taken down with logs.keep
        raise PerennialError(
            f"{cluster}: the logs of an earlier cluster are there, as its file has logs.keep;"
            f" remove them with `{removal(cluster, aws.region)}`, or give this one another name"
        )


def _is_gone(arn: str, aws: Aws) -> bool:
    """Whether AWS remembers for an hour what has ended: of ECS, an instance, a NAT gateway."""
    if ":instance/" in arn:
        return _has_ended(arn.rpartition("/")[2], aws)
    if ":natgateway/" in arn:
        return _is_deleted(arn.rpartition("/")[2], aws)
    if ":ecs:" not in arn or ":cluster/" not in arn:
        return ":ecs:" in arn
    call = aws.client("ecs").describe_clusters
    answer = aws.call("look at a cluster of ECS", call, clusters=[arn])
    return not any(each["status"] == "ACTIVE" for each in answer["clusters"])


def _is_deleted(gateway: str, aws: Aws) -> bool:
    look = aws.client("ec2").describe_nat_gateways
    found = _described(aws, gateway, look, NatGatewayIds=[gateway]).get("NatGateways", ())
    return all(each["State"] in ("deleting", "deleted") for each in found)


def _has_ended(instance: str, aws: Aws) -> bool:
    look = aws.client("ec2").describe_instances
    found = _described(aws, instance, look, InstanceIds=[instance])
    return all(
        each["State"]["Name"] in ("shutting-down", "terminated")
        for reservation in found.get("Reservations", ())
        for each in reservation["Instances"]
    )


def _described(aws: Aws, what: str, look: Callable[..., Any], **asked: Any) -> Mapping[str, Any]:
    """Ask what something is; empty where AWS does not know it."""
    return unless(Cause.MISSING, lambda: aws.call(f"look at {what}", look, **asked)) or {}


def _network(options: AwsOptions, aws: Aws) -> Iterator[str]:
    wanted = options.network
    if wanted.is_made:
        yield from _zones(options, aws)
        return
    ec2 = aws.client("ec2")
    vpc = str(wanted.vpc)
    if not _described(aws, vpc, ec2.describe_vpcs, VpcIds=[vpc]).get("Vpcs"):
        yield f"network.vpc: no VPC {wanted.vpc} in {options.region}; correct it, or the region"
        return
    for subnet in wanted.subnets:
        yield from _within(wanted.vpc, subnet, _subnet(aws, ec2, subnet), options.region)
    for group in wanted.security_groups:
        yield from _within(wanted.vpc, group, _security_group(aws, ec2, group), options.region)


def _subnet(aws: Aws, ec2: Any, subnet: str) -> str | None:
    found = _described(aws, subnet, ec2.describe_subnets, SubnetIds=[subnet]).get("Subnets")
    return str(found[0]["VpcId"]) if found else None


def _security_group(aws: Aws, ec2: Any, group: str) -> str | None:
    look = ec2.describe_security_groups
    found = _described(aws, group, look, GroupIds=[group]).get("SecurityGroups")
    return str(found[0]["VpcId"]) if found else None


def _within(vpc: str | None, what: str, found: str | None, region: str) -> Iterator[str]:
    """Say that something is missing, or in another VPC."""
    key = "subnets" if what.startswith("subnet") else "security_groups"
    if found is None:
        yield f"network.{key}: no {what} in {region}; correct it"
    elif found != vpc:
        yield f"network.{key}: {what} is in {found}; allowed: those of {vpc}; correct it or the VPC"


def _zones(options: AwsOptions, aws: Aws) -> Iterator[str]:
    look = aws.client("ec2").describe_availability_zones
    found = aws.call("list the availability zones", look)["AvailabilityZones"]
    there = sorted(each["ZoneName"] for each in found if each["State"] == "available")
    for zone in options.network.zones:
        if f"{options.region}{zone}" not in there:
            letters = ", ".join(each.removeprefix(options.region) for each in there)
            yield (
                f"network.zones: found {zone}; allowed in {options.region} for this account:"
                f" {letters}; choose among these"
            )


def _file_system(options: AwsOptions, aws: Aws) -> Iterator[str]:
    wanted = options.notebooks.file_system if options.notebooks else None
    if wanted is None:
        return
    look = aws.client("efs").describe_file_systems
    if not _described(aws, wanted, look, FileSystemId=wanted).get("FileSystems"):
        yield f"notebooks.file_system: no {wanted} in {options.region}; correct it"
