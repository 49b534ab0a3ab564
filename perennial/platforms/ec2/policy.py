"""Rights of whoever deploys and operates a cluster on EC2. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.aws import names
from perennial.aws.policy import Place, linked, quotas, shared
from perennial.aws.policy.place import prefixed, unscoped
from perennial.aws.rights import Statement
from perennial.spec import ClusterSpec


def deployer(spec: ClusterSpec, account: str = "*") -> Iterator[Statement]:
    """List the rights."""
    place = Place(spec.name, spec.options.region, account)
    yield from shared(place, spec.options, ("ec2",))
    yield linked(place, "autoscaling", "spot")
    yield quotas(place, "ec2", *(["vpc"] if spec.options.network.is_made else []))
    yield from _profiles(place)
    yield from _instances(place, spec)
    yield from _groups(place)
    yield from _bucket(place)
    yield from _zone(place)
    yield from _sessions(place)


def _profiles(place: Place) -> Iterator[Statement]:
    actions = (
        *("AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile"),
        *("GetInstanceProfile", "RemoveRoleFromInstanceProfile"),
    )
    own = place.iam(f"instance-profile/{names.OURS}/{place.named(names.ROLE)}")
    tags = ("TagInstanceProfile", "UntagInstanceProfile")
    yield Statement(prefixed("iam", (*actions, *tags)), (own,))


def _instances(place: Place, spec: ClusterSpec) -> Iterator[Statement]:
    reads = (
        *("DescribeImages", "DescribeInstanceTypeOfferings", "DescribeInstanceTypes"),
        *("DescribeInstances", "DescribeLaunchTemplateVersions"),
    )
    yield unscoped("ec2", *reads, "DescribeLaunchTemplates", "DescribeVolumes")
    yield place.created("ec2", ("launch-template",), "CreateLaunchTemplate")
    yield place.created("ec2", ("volume",), "CreateVolume")
    yield place.tagged(
        "ec2",
        ("launch-template", "volume"),
        *("CreateLaunchTemplateVersion", "DeleteLaunchTemplate", "DeleteLaunchTemplateVersions"),
        *("DeleteVolume", "ModifyLaunchTemplate", "ModifyVolume"),
    )
    # Auto Scaling asks whether whoever names a launch template may start what it describes.
    yield place.created("ec2", ("instance", "network-interface", "volume"), "RunInstances")
    yield place.tagged("ec2", ("launch-template", "security-group", "subnet"), "RunInstances")
    network = spec.options.network
    given = ["key-pair/*", *(f"subnet/{each}" for each in network.subnets)]
    given += [f"security-group/{each}" for each in network.security_groups]
    image = f"arn:{place.partition}:ec2:{place.region}::image/*"
    yield Statement(("ec2:RunInstances",), (*(place.arn("ec2", each) for each in given), image))
    parameters = f"arn:{place.partition}:ssm:{place.region}::parameter/aws/service/*"
    yield Statement(prefixed("ssm", ("GetParameter", "GetParameters")), (parameters,))


def _groups(place: Place) -> Iterator[Statement]:
    reads = (
        *("DescribeAutoScalingGroups", "DescribeInstanceRefreshes", "DescribeLifecycleHooks"),
        *("DescribeScalingActivities", "DescribeTags", "DescribeWarmPool"),
    )
    yield unscoped("autoscaling", *reads)
    actions = (
        *("CancelInstanceRefresh", "CreateAutoScalingGroup", "CreateOrUpdateTags"),
        *("DeleteAutoScalingGroup", "DeleteLifecycleHook", "DeleteTags", "DeleteWarmPool"),
        *("DisableMetricsCollection", "EnableMetricsCollection"),
        *("PutLifecycleHook", "PutWarmPool", "ResumeProcesses", "SetDesiredCapacity"),
        *("SetInstanceProtection", "StartInstanceRefresh", "SuspendProcesses"),
        *("TerminateInstanceInAutoScalingGroup", "UpdateAutoScalingGroup"),
    )
    pattern = f"autoScalingGroup:*:autoScalingGroupName/{place.named()}"
    yield Statement(prefixed("autoscaling", actions), (place.arn("autoscaling", pattern),))


def _bucket(place: Place) -> Iterator[Statement]:
    # Its name ends in what AWS's plugin makes up, see `stacks/ec2.py`.
    own = place.everywhere("s3", f"{names.OURS}-{place.cluster}"[:36] + "-*")
    actions = ("CreateBucket", "DeleteBucket", "ListBucket", "ListBucketVersions")
    blocks = ("GetBucketPublicAccessBlock", "PutBucketPublicAccessBlock")
    tags = ("GetBucketTagging", "PutBucketTagging")
    # The plugin reads all settings of a bucket, used or not.
    reads = (
        *("GetAccelerateConfiguration", "GetBucketAcl", "GetBucketCORS", "GetBucketLocation"),
        *("GetBucketLogging", "GetBucketObjectLockConfiguration", "GetBucketPolicy"),
        *("GetBucketRequestPayment", "GetBucketVersioning", "GetBucketWebsite"),
        *("GetEncryptionConfiguration", "GetLifecycleConfiguration"),
        *("GetReplicationConfiguration",),
    )
    yield Statement(prefixed("s3", (*actions, *blocks, *tags, *reads)), (own,))
    objects = (
        *("DeleteObject", "DeleteObjectVersion", "GetObject", "GetObjectTagging"),
        *("PutObject", "PutObjectTagging"),
    )
    yield Statement(prefixed("s3", objects), (f"{own}/*",))


def _zone(place: Place) -> Iterator[Statement]:
    """List what is done with the zone of the scheduler's name, whose id is not known before."""
    yield unscoped("route53", "CreateHostedZone")
    actions = (
        *("AssociateVPCWithHostedZone", "ChangeResourceRecordSets", "ChangeTagsForResource"),
        *("DeleteHostedZone", "GetHostedZone", "ListResourceRecordSets"),
        *("ListTagsForResource", "UpdateHostedZoneComment"),
    )
    own = place.everywhere("route53", "hostedzone/*")
    yield Statement(prefixed("route53", actions), (own,))
    changes = place.everywhere("route53", "change/*")
    yield Statement(("route53:GetChange",), (changes,))


def _sessions(place: Place) -> Iterator[Statement]:
    """List what `perennial connect --port-forward` and `perennial restart` do."""
    documents = ("AWS-StartPortForwardingSession*", "AWS-RunShellScript")
    begin = f"arn:{place.partition}:ssm:{place.region}::document"
    named = tuple(f"{begin}/{each}" for each in documents)
    yield Statement(prefixed("ssm", ("SendCommand", "StartSession")), named)
    own = {f"ssm:resourceTag/{names.CLUSTER}": place.cluster}
    instances = (place.arn("ec2", "instance/*"),)
    actions = prefixed("ssm", ("SendCommand", "StartSession"))
    yield Statement(actions, instances, {"StringEquals": own})
    session = place.arn("ssm", "session/${aws:userid}-*")
    yield Statement(("ssm:TerminateSession",), (session,))
    yield unscoped("ssm", "GetCommandInvocation", "DescribeInstanceInformation")
