"""A standing Dask cluster on EC2 in a small VPC of its own, with a topic that hears its alarms.

    pulumi config set region eu-central-1
    pulumi config set image ami-0a1b2c3d4e5f60718    # optional: Ubuntu 24.04 when it is not given

Topic, image, VPC and subnets may as well come from other resources of the program.
"""

import pulumi
import pulumi_aws as aws

from perennial.stacks.ec2 import (
    AwsAlarmsArgs,
    Ec2Cluster,
    Ec2ClusterArgs,
    Ec2OptionsArgs,
    EnvironmentArgs,
    GroupInstancesArgs,
    ScaleArgs,
    SpotInstancesArgs,
    WorkerGroupArgs,
)

config = pulumi.Config()
region = config.require("region")
provider = aws.Provider("aws", region=region)
topic = aws.sns.Topic("dask-alarms", opts=pulumi.ResourceOptions(provider=provider))

cluster = Ec2Cluster(
    "dask",
    Ec2ClusterArgs(
        name="lab",
        environment=EnvironmentArgs(requirements=["dask==2026.8.0", "distributed==2026.8.0"]),
        workers={
            "cpu": WorkerGroupArgs(
                threads=4, memory="14 GiB", scale=ScaleArgs(min=1, max=12, idle="5 min")
            )
        },
        jupyter=None,
        ec2=Ec2OptionsArgs(
            region=region,
            image=config.get("image"),
            alarms=AwsAlarmsArgs(topic=topic.arn),
            workers={"cpu": GroupInstancesArgs(spot=SpotInstancesArgs(base=1))},
        ),
    ),
    pulumi.ResourceOptions(provider=provider),
)

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("connection", cluster.connection)
