"""Functions that a program may call: what is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.labs.aws.provider.kind import Aws, UnsupportedError, Values, found, tags_of
from tests.labs.aws.provider.network import Subnet, Vpc

Invoke = Callable[[Aws, Values], Values]


def _region(aws: Aws, args: Values) -> Values:
    return {
        **{"id": aws.region, "name": aws.region, "region": aws.region},
        **{"description": aws.region, "endpoint": f"ec2.{aws.region}.amazonaws.com"},
    }


def _caller(aws: Aws, args: Values) -> Values:
    told = aws.client("sts").get_caller_identity()
    return {
        **{"id": told["Account"], "accountId": told["Account"]},
        **{"arn": told["Arn"], "userId": told["UserId"]},
    }


def _partition(aws: Aws, args: Values) -> Values:
    return {
        **{"id": "aws", "partition": "aws"},
        **{"dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"},
    }


def _zones(aws: Aws, args: Values) -> Values:
    filters = [{"Name": "state", "Values": [args["state"]]}] if args.get("state") else []
    told = aws.client("ec2").describe_availability_zones(Filters=filters)["AvailabilityZones"]
    return {
        "id": aws.region,
        "names": [each["ZoneName"] for each in told],
        "zoneIds": [each["ZoneId"] for each in told],
        "groupNames": [aws.region],
    }


def _filters(args: Values) -> list[Any]:
    return [{"Name": one["name"], "Values": one["values"]} for one in args.get("filters") or []]


def _vpc(aws: Aws, args: Values) -> Values:
    where = _filters(args)
    if args.get("default"):
        where.append({"Name": "is-default", "Values": ["true"]})
    ids = {"VpcIds": [args["id"]]} if args.get("id") else {}
    told = aws.client("ec2").describe_vpcs(Filters=where, **ids)["Vpcs"]
    if len(told) != 1:
        raise UnsupportedError(f"{len(told)} matching EC2 VPCs found")
    one = told[0]
    more = Vpc().more(aws, one)
    return {**found(Vpc.token, one), **more, "id": one["VpcId"], "tags": tags_of(one.get("Tags"))}


def _subnet(aws: Aws, args: Values) -> Values:
    ids = {"SubnetIds": [args["id"]]} if args.get("id") else {}
    told = aws.client("ec2").describe_subnets(Filters=_filters(args), **ids)["Subnets"]
    if len(told) != 1:
        raise UnsupportedError(f"{len(told)} matching EC2 subnets found")
    one = told[0]
    tags = tags_of(one.get("Tags"))
    return {**found(Subnet.token, one), "id": one["SubnetId"], "tags": tags}


def _subnets(aws: Aws, args: Values) -> Values:
    told = aws.client("ec2").describe_subnets(Filters=_filters(args))["Subnets"]
    return {"id": aws.region, "ids": [each["SubnetId"] for each in told]}


def _image(aws: Aws, args: Values) -> Values:
    owners = {"Owners": args["owners"]} if args.get("owners") else {}
    told = aws.client("ec2").describe_images(Filters=_filters(args), **owners)["Images"]
    if not told or (len(told) > 1 and not args.get("mostRecent")):
        raise UnsupportedError(f"{len(told)} AMIs match; use a more specific search")
    one = max(told, key=lambda each: str(each["CreationDate"]))
    names = ("ImageId", "Architecture", "Name", "RootDeviceName", "RootDeviceType", "State")
    values = {name[0].lower() + name[1:]: one.get(name, "") for name in names}
    return {**values, "id": one["ImageId"], "tags": tags_of(one.get("Tags"))}


def _parameter(aws: Aws, args: Values) -> Values:
    one = aws.client("ssm").get_parameter(Name=args["name"])["Parameter"]
    return {
        **{"id": one["Name"], "name": one["Name"], "value": one["Value"], "arn": one["ARN"]},
        **{"type": one["Type"], "version": one["Version"]},
    }


INVOKES: dict[str, Invoke] = {
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _zones,
    "aws:ec2/getVpc:getVpc": _vpc,
    "aws:ec2/getSubnet:getSubnet": _subnet,
    "aws:ec2/getSubnets:getSubnets": _subnets,
    "aws:ec2/getAmi:getAmi": _image,
    "aws:ssm/getParameter:getParameter": _parameter,
}
