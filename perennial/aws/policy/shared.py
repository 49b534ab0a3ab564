"""Rights on what clusters have on every platform of AWS. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perennial.aws import names
from perennial.aws.options import AwsOptions
from perennial.aws.policy.network import network
from perennial.aws.policy.place import Place, prefixed, unscoped
from perennial.aws.rights import Statement


def shared(place: Place, options: AwsOptions, trusted: Sequence[str]) -> Iterator[Statement]:
    """List the rights on what each platform has; ``trusted`` are services that take its roles."""
    yield unscoped("sts", "GetCallerIdentity")
    yield unscoped("tag", "GetResources")
    yield from network(place, options.network)
    yield from _roles(place, options, trusted)
    yield from _secrets(place)
    yield from _logs(place)
    if options.alarms is not None:
        yield from _alarms(place)
    if options.notebooks is not None:
        yield from _notebooks(place, options)


def quotas(place: Place, *services: str) -> Statement:
    """Let be asked how much of these services the account may have."""
    every = tuple(place.arn("servicequotas", f"{each}/*") for each in services)
    return Statement(("servicequotas:GetServiceQuota",), every)


def linked(place: Place, *services: str) -> Statement:
    """Let AWS make its own roles of services, the first time in an account."""
    return Statement(
        ("iam:CreateServiceLinkedRole",),
        tuple(place.iam(f"role/aws-service-role/{each}.amazonaws.com/*") for each in services),
    )


def _roles(place: Place, options: AwsOptions, trusted: Sequence[str]) -> Iterator[Statement]:
    every = (place.iam(f"role/{names.OURS}/{place.named(names.ROLE)}"),)
    changes = (
        *("CreateRole", "PutRolePolicy", "DeleteRolePolicy", "AttachRolePolicy"),
        *("DetachRolePolicy", "PutRolePermissionsBoundary"),
    )
    boundary = options.permissions_boundary
    bound = {"StringEquals": {"iam:PermissionsBoundary": boundary}} if boundary else {}
    yield Statement(prefixed("iam", changes), every, bound)
    others = (
        *("DeleteRole", "GetRole", "GetRolePolicy", "TagRole", "UntagRole", "UpdateRole"),
        *("UpdateAssumeRolePolicy", "UpdateRoleDescription", "ListRoleTags"),
    )
    reads = ("ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies")
    yield Statement(prefixed("iam", (*others, *reads)), every)
    for service in trusted:
        passed = {"iam:PassedToService": f"{service}.amazonaws.com"}
        yield Statement(("iam:PassRole",), every, {"StringEquals": passed})


def _secrets(place: Place) -> Iterator[Statement]:
    actions = (
        *("CreateSecret", "DeleteSecret", "DescribeSecret", "GetResourcePolicy"),
        *("GetSecretValue", "PutSecretValue", "TagResource", "UntagResource"),
        *("UpdateSecret", "UpdateSecretVersionStage"),
    )
    own = place.arn("secretsmanager", f"secret:{names.secret_name(place.cluster, '*')}")
    yield Statement(prefixed("secretsmanager", actions), (own,))


def _logs(place: Place) -> Iterator[Statement]:
    yield unscoped("logs", "DescribeLogGroups")
    actions = (
        *("CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy", "DescribeLogStreams"),
        *("FilterLogEvents", "GetLogEvents", "ListTagsForResource", "PutRetentionPolicy"),
    )
    group = place.arn("logs", f"log-group:{names.log_group(place.cluster)}")
    yield Statement(
        prefixed("logs", (*actions, "TagResource", "UntagResource")), (group, f"{group}:*")
    )


def _alarms(place: Place) -> Iterator[Statement]:
    actions = ("DeleteAlarms", "DescribeAlarms", "ListTagsForResource", "PutMetricAlarm")
    own = place.arn("cloudwatch", f"alarm:{place.named()}")
    yield Statement(prefixed("cloudwatch", (*actions, "TagResource", "UntagResource")), (own,))
    filters = ("DeleteMetricFilter", "DescribeMetricFilters", "PutMetricFilter")
    group = place.arn("logs", f"log-group:{names.log_group(place.cluster)}")
    yield Statement(prefixed("logs", filters), (group, f"{group}:*"))


def _notebooks(place: Place, options: AwsOptions) -> Iterator[Statement]:
    service, kinds = "elasticfilesystem", ("file-system", "access-point")
    if options.notebooks is not None and options.notebooks.file_system is not None:
        given = place.arn(service, f"file-system/{options.notebooks.file_system}")
        yield Statement(
            prefixed(service, ("DescribeFileSystems", "DescribeMountTargets")), (given,)
        )
        return
    yield place.created(service, (), "CreateFileSystem")
    yield place.created(service, kinds, "TagResource")
    yield place.tagged(
        service,
        kinds,
        *("CreateAccessPoint", "CreateMountTarget", "DeleteAccessPoint", "DeleteFileSystem"),
        *("DeleteMountTarget", "DescribeAccessPoints", "DescribeFileSystems"),
        *("DescribeLifecycleConfiguration", "DescribeMountTargets"),
        *("DescribeMountTargetSecurityGroups", "ListTagsForResource"),
        *("ModifyMountTargetSecurityGroups", "TagResource", "UntagResource", "UpdateFileSystem"),
    )
    # The interface of a mount target is made in the name of whoever asks for the target.
    interfaces = ("network-interface", "security-group", "subnet")
    every = tuple(place.arn("ec2", f"{kind}/*") for kind in interfaces)
    actions = ("CreateNetworkInterface", "DeleteNetworkInterface")
    yield Statement(prefixed("ec2", (*actions, "ModifyNetworkInterfaceAttribute")), every)
