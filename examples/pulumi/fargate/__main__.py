"""A VPC with a private subnet in two zones, and a standing Dask cluster on Fargate in it.

    pulumi config set region eu-central-1
    pulumi config set image 123456789012.dkr.ecr.eu-central-1.amazonaws.com/dask:1

The image has Dask and dask-perennial; `perennial render` writes a recipe for it. A registry and a
VPC of other components, such as those of awsx, take the place of these resources.
"""

import pulumi
import pulumi_aws as aws

from perennial.stacks.fargate import (
    AwsNetworkArgs,
    FargateCluster,
    FargateClusterArgs,
    FargateGroupArgs,
    FargateOptionsArgs,
    ScaleArgs,
    WorkerGroupArgs,
)

config = pulumi.Config()
region = config.require("region")
provider = aws.Provider("aws", region=region)
made_by = pulumi.ResourceOptions(provider=provider)

vpc = aws.ec2.Vpc("vpc", cidr_block="10.20.0.0/16", enable_dns_hostnames=True, opts=made_by)
gateway = aws.ec2.InternetGateway("gateway", vpc_id=vpc.id, opts=made_by)
public = aws.ec2.Subnet(
    "public",
    vpc_id=vpc.id,
    cidr_block="10.20.0.0/24",
    availability_zone=f"{region}a",
    opts=made_by,
)
address = aws.ec2.Eip("address", domain="vpc", opts=made_by)
nat = aws.ec2.NatGateway(
    "nat",
    subnet_id=public.id,
    allocation_id=address.id,
    opts=pulumi.ResourceOptions(provider=provider, depends_on=[gateway]),
)


def routed(name: str, subnet: aws.ec2.Subnet, **way: pulumi.Input[str]) -> aws.ec2.Subnet:
    """Let a subnet reach the internet this way."""
    everywhere = aws.ec2.RouteTableRouteArgs(cidr_block="0.0.0.0/0", **way)
    table = aws.ec2.RouteTable(f"{name}-way", vpc_id=vpc.id, routes=[everywhere], opts=made_by)
    aws.ec2.RouteTableAssociation(
        f"{name}-way", subnet_id=subnet.id, route_table_id=table.id, opts=made_by
    )
    return subnet


routed("public", public, gateway_id=gateway.id)
private = [
    routed(
        f"private-{zone}",
        aws.ec2.Subnet(
            f"private-{zone}",
            vpc_id=vpc.id,
            cidr_block=f"10.20.{number}.0/24",
            availability_zone=f"{region}{zone}",
            opts=made_by,
        ),
        nat_gateway_id=nat.id,
    )
    for number, zone in enumerate("ab", start=1)
]

cluster = FargateCluster(
    "dask",
    FargateClusterArgs(
        name="lab",
        workers={"cpu": WorkerGroupArgs(threads=2, memory="6 GiB", scale=ScaleArgs(max=8))},
        jupyter=None,
        fargate=FargateOptionsArgs(
            region=region,
            image=config.require("image"),
            network=AwsNetworkArgs(vpc=vpc.id, subnets=[subnet.id for subnet in private]),
            workers={"cpu": FargateGroupArgs(base=1, on_demand=0, spot=1)},
        ),
    ),
    pulumi.ResourceOptions(provider=provider),
)

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("connection", cluster.connection)
