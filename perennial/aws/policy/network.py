"""Rights on the network of a cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.aws.options import AwsNetwork
from perennial.aws.policy.place import Place, prefixed, unscoped
from perennial.aws.rights import Statement

#: What EC2 lists without knowing a resource.
_READS = (
    *("DescribeAddresses", "DescribeAvailabilityZones", "DescribeInternetGateways"),
    *("DescribeNatGateways", "DescribeNetworkInterfaces", "DescribeRouteTables"),
    *("DescribeSecurityGroupRules", "DescribeSecurityGroups", "DescribeSubnets"),
    *("DescribeTags", "DescribeVpcEndpoints", "DescribeVpcs"),
)
#: What the plugin reads of a VPC and its endpoints beside.
_PLUGIN_READS = ("DescribeAddressesAttribute", "DescribeNetworkAcls", "DescribePrefixLists")


def network(place: Place, options: AwsNetwork) -> Iterator[Statement]:
    """List what is done with a network: with one that is made, and with one that is given."""
    yield unscoped("ec2", *_READS, *_PLUGIN_READS)
    if options.is_made:
        yield from _made(place)
    else:
        vpc, subnets = f"vpc/{options.vpc}", (f"subnet/{each}" for each in options.subnets)
        given = tuple(place.arn("ec2", each) for each in (vpc, *subnets))
        yield Statement(("ec2:DescribeVpcAttribute",), given[:1])
        yield Statement(("ec2:CreateSecurityGroup",), given[:1])
    yield from _groups(place)
    yield from _tags(place)


def _made(place: Place) -> Iterator[Statement]:
    kinds = ("vpc", "subnet", "internet-gateway", "route-table", "natgateway", "elastic-ip")
    yield place.created(
        "ec2",
        (*kinds, "vpc-endpoint"),
        *("CreateVpc", "CreateSubnet", "CreateInternetGateway", "CreateRouteTable"),
        *("CreateNatGateway", "AllocateAddress", "CreateVpcEndpoint"),
    )
    yield place.tagged(
        "ec2",
        ("vpc", "subnet", "route-table", "security-group", "elastic-ip"),
        *("CreateSubnet", "CreateRouteTable", "CreateNatGateway", "CreateVpcEndpoint"),
        "CreateSecurityGroup",
    )
    yield place.tagged(
        "ec2",
        (*kinds, "vpc-endpoint"),
        *("AssociateRouteTable", "AttachInternetGateway", "CreateRoute", "DeleteInternetGateway"),
        *("DeleteNatGateway", "DeleteRoute", "DeleteRouteTable", "DeleteSubnet", "DeleteVpc"),
        *("DeleteVpcEndpoints", "DescribeVpcAttribute", "DetachInternetGateway"),
        *("DisassociateAddress", "DisassociateRouteTable", "ModifySubnetAttribute"),
        *("ModifyVpcAttribute", "ModifyVpcEndpoint", "ReleaseAddress", "ReplaceRoute"),
    )
    # An endpoint with a name of its own gives its zone to the VPC.
    yield Statement(
        ("route53:AssociateVPCWithHostedZone",), (place.everywhere("route53", "hostedzone/*"),)
    )


def _groups(place: Place) -> Iterator[Statement]:
    rules = ("AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress")
    yield place.created(
        "ec2", ("security-group", "security-group-rule"), "CreateSecurityGroup", *rules
    )
    yield place.tagged(
        "ec2",
        ("security-group", "security-group-rule"),
        *(*rules, "DeleteSecurityGroup", "ModifySecurityGroupRules"),
        *("RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress"),
    )


def _tags(place: Place) -> Iterator[Statement]:
    """List who may tag: only what is being made, or is the cluster's already."""
    every = (place.arn("ec2", "*/*"),)
    made = place.created("ec2", (), "CreateTags").conditions
    yield Statement(("ec2:CreateTags",), every, {**made, "Null": {"ec2:CreateAction": "false"}})
    ours = place.tagged("ec2", (), "CreateTags").conditions
    yield Statement(prefixed("ec2", ("CreateTags", "DeleteTags")), every, ours)
