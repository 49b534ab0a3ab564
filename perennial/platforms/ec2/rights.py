"""The rights of the roles of instances, each on what is the cluster's own. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from perennial.aws import names
from perennial.aws.rights import VERSION, Statement
from perennial.platforms.ec2 import parts
from perennial.spec import ClusterSpec

#: What the agent of Systems Manager asks for: sessions, and commands of `perennial restart`. Its
#: APIs know no resource; of Amazon's own policy for it these are what reads no parameter.
_AGENT = (
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)


def partition(region: str) -> str:
    """Return the partition of a region, with which its ARNs begin."""
    found = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
    return next((name for start, name in found.items() if region.startswith(f"{start}-")), "aws")


def instance(key: str, bucket: str, secrets: Sequence[str], logs: str) -> list[Statement]:
    """Return what every instance may do: fetch its bundle and its keys, and send its logs."""
    return [
        Statement(("s3:GetObject",), (f"{bucket}/{key}/*",)),
        Statement(("secretsmanager:GetSecretValue",), tuple(secrets)),
        Statement(("logs:CreateLogStream", "logs:PutLogEvents"), (f"{logs}:*",)),
        Statement(_AGENT, ("*",)),
    ]


def given_volume(spec: ClusterSpec) -> str:
    """Return the name of a volume that the file gives, in whichever account."""
    region, volume = spec.options.region, spec.options.scheduler.volume_id
    return f"arn:{partition(region)}:ec2:{region}:*:volume/{volume}"


def scheduler(spec: ClusterSpec, zone: str, volume: str, scaler: str | None) -> list[Statement]:
    """Return what the scheduler's instance may do beside: its name, its volume, its scaler."""
    begin = f"arn:{partition(spec.options.region)}:ec2:{spec.options.region}:*:instance/*"
    own: Mapping[str, str] = {
        f"aws:ResourceTag/{names.CLUSTER}": spec.name,
        f"aws:ResourceTag/{names.PART}": parts.SCHEDULER,
    }
    record = {
        "route53:ChangeResourceRecordSetsNormalizedRecordNames": parts.scheduler_host(spec),
        "route53:ChangeResourceRecordSetsRecordTypes": "A",
        "route53:ChangeResourceRecordSetsActions": "UPSERT",
    }
    found = [
        Statement(("ec2:AttachVolume",), (volume,)),
        Statement(("ec2:AttachVolume",), (begin,), {"StringEquals": own}),
        Statement(
            ("route53:ChangeResourceRecordSets",), (zone,), {"ForAllValues:StringEquals": record}
        ),
    ]
    return [*found, Statement(("sts:AssumeRole",), (scaler,))] if scaler else found


def worker(spec: ClusterSpec, group: str) -> list[Statement]:
    """Return what a worker's instance may do beside: answer the hooks of its own group."""
    actions = ("CompleteLifecycleAction", "RecordLifecycleActionHeartbeat")
    own = tuple(f"autoscaling:{action}" for action in actions)
    return [Statement(own, (group_arn(spec, group),))]


def scaler(spec: ClusterSpec) -> list[Statement]:
    """Return what the scaler may do: look at groups, and size those of this cluster."""
    actions = ("SetDesiredCapacity", "TerminateInstanceInAutoScalingGroup")
    groups = tuple(group_arn(spec, group) for group in spec.workers)
    own = {f"autoscaling:ResourceTag/{names.CLUSTER}": spec.name}
    return [
        # AWS knows no resource for what only reads.
        Statement(("autoscaling:DescribeAutoScalingGroups",), ("*",)),
        Statement(tuple(f"autoscaling:{each}" for each in actions), groups, {"StringEquals": own}),
    ]


def group_arn(spec: ClusterSpec, group: str) -> str:
    """Return the ARN of a group's Auto Scaling group; its middle, AWS makes up."""
    region = spec.options.region
    begin = f"arn:{partition(region)}:autoscaling:{region}:*:autoScalingGroup:*"
    return f"{begin}:autoScalingGroupName/{names.name_of(spec.name, group)}"


def trusted(role: str) -> str:
    """Write that one role may take another."""
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": role}}
    return json.dumps({"Version": VERSION, "Statement": [statement]}, sort_keys=True)
