"""Every resource of the account that somebody has made: what `down` should leave none of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.labs.aws.provider.containers import standing
from tests.labs.aws.provider.kind import tags_of

Client = Callable[[str], Any]


@dataclass(frozen=True)
class Leftover:
    """A resource that is there."""

    kind: str
    id: str
    tags: dict[str, str] = field(default_factory=dict, compare=False, hash=False)


def leftovers(client: Client) -> list[Leftover]:
    """Return every resource of every service that the stacks use."""
    parts = (_ec2, _scaling, _iam, _secrets, _watching, _containers, _balancing, _storage, _names)
    return [each for part in parts for each in part(client)]


#: Calls of EC2, the key of their list and of the id.
_EC2 = (
    ("describe_vpcs", "Vpcs", "VpcId"),
    ("describe_subnets", "Subnets", "SubnetId"),
    ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("describe_route_tables", "RouteTables", "RouteTableId"),
    ("describe_nat_gateways", "NatGateways", "NatGatewayId"),
    ("describe_addresses", "Addresses", "AllocationId"),
    ("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("describe_security_groups", "SecurityGroups", "GroupId"),
    ("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
    ("describe_volumes", "Volumes", "VolumeId"),
)


def _ec2(client: Client) -> Iterator[Leftover]:
    ec2 = client("ec2")
    default = {each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"] if each["IsDefault"]}
    for call, key, name in _EC2:
        for each in _every(ec2, call, key):
            if each.get("VpcId") in default and _made_with_it(key, each):
                continue
            if _ends_with_its_owner(key, each):
                continue
            tags = tags_of(each.get("Tags") or each.get("TagSet"))
            yield Leftover(key, each[name], tags)
    for held in _every(ec2, "describe_instances", "Reservations"):
        for each in held["Instances"]:
            if each["State"]["Name"] not in {"terminated", "shutting-down"}:
                yield Leftover("Instances", each["InstanceId"], tags_of(each.get("Tags")))


def _made_with_it(key: str, each: Any) -> bool:
    """Whether it came with the default VPC, which each account has."""
    main = any(one.get("Main") for one in each.get("Associations") or ())
    named = key != "SecurityGroups" or each["GroupName"] == "default"
    return (key in {"Vpcs", "Subnets", "SecurityGroups"} and named) or main


def _ends_with_its_owner(key: str, each: Any) -> bool:
    if key == "SecurityGroups":
        return bool(each["GroupName"] == "default")
    if key == "RouteTables":
        return any(one.get("Main") for one in each.get("Associations") or ())
    return key in {"NatGateways", "VpcEndpoints"} and each["State"] in {"deleted", "deleting"}


def _scaling(client: Client) -> Iterator[Leftover]:
    scaling = client("autoscaling")
    for each in _every(scaling, "describe_auto_scaling_groups", "AutoScalingGroups"):
        tags = tags_of(each.get("Tags"))
        yield Leftover("AutoScalingGroups", each["AutoScalingGroupName"], tags)


def _iam(client: Client) -> Iterator[Leftover]:
    iam = client("iam")
    for each in _every(iam, "list_roles", "Roles"):
        if not each["Path"].startswith("/aws-service-role/"):
            tags = iam.list_role_tags(RoleName=each["RoleName"])["Tags"]
            yield Leftover("Roles", each["RoleName"], tags_of(tags))
    for each in _every(iam, "list_instance_profiles", "InstanceProfiles"):
        yield Leftover("InstanceProfiles", each["InstanceProfileName"], tags_of(each.get("Tags")))
    for each in _every(iam, "list_policies", "Policies", Scope="Local"):
        yield Leftover("Policies", each["Arn"])


def _secrets(client: Client) -> Iterator[Leftover]:
    for each in _every(client("secretsmanager"), "list_secrets", "SecretList"):
        yield Leftover("Secrets", each["Name"], tags_of(each.get("Tags")))
    for each in _every(client("ssm"), "describe_parameters", "Parameters"):
        yield Leftover("Parameters", each["Name"])


def _watching(client: Client) -> Iterator[Leftover]:
    logs, cloudwatch, sns = client("logs"), client("cloudwatch"), client("sns")
    for each in _every(logs, "describe_log_groups", "logGroups"):
        arn = each["arn"].removesuffix(":*")
        tags = logs.list_tags_for_resource(resourceArn=arn)["tags"]
        yield Leftover("LogGroups", each["logGroupName"], tags)
    for each in _every(logs, "describe_metric_filters", "metricFilters"):
        yield Leftover("MetricFilters", each["filterName"])
    for each in _every(cloudwatch, "describe_alarms", "MetricAlarms"):
        tags = cloudwatch.list_tags_for_resource(ResourceARN=each["AlarmArn"])["Tags"]
        yield Leftover("Alarms", each["AlarmName"], tags_of(tags))
    for each in _every(sns, "list_topics", "Topics"):
        tags = sns.list_tags_for_resource(ResourceArn=each["TopicArn"])["Tags"]
        yield Leftover("Topics", each["TopicArn"], tags_of(tags))


def _containers(client: Client) -> Iterator[Leftover]:
    ecs, map_ = client("ecs"), client("servicediscovery")
    for arn in _every(ecs, "list_clusters", "clusterArns"):
        told = ecs.describe_clusters(clusters=[arn], include=["TAGS"])["clusters"]
        if told and told[0]["status"] != "INACTIVE":
            yield Leftover("EcsClusters", arn, tags_of(told[0].get("tags")))
        for service in standing(ecs, arn):
            tags = ecs.list_tags_for_resource(resourceArn=service)["tags"]
            yield Leftover("EcsServices", service, tags_of(tags))
        for task in _every(ecs, "list_tasks", "taskArns", cluster=arn, desiredStatus="RUNNING"):
            yield Leftover("EcsTasks", task)
    for arn in _every(ecs, "list_task_definitions", "taskDefinitionArns"):
        tags = ecs.list_tags_for_resource(resourceArn=arn)["tags"]
        yield Leftover("TaskDefinitions", arn, tags_of(tags))
    for key, call in (("Namespaces", "list_namespaces"), ("Services", "list_services")):
        for each in _every(map_, call, key):
            tags = map_.list_tags_for_resource(ResourceARN=each["Arn"])["Tags"]
            yield Leftover(f"CloudMap{key}", each["Id"], tags_of(tags))


def _balancing(client: Client) -> Iterator[Leftover]:
    balancing = client("elbv2")
    for call, key, name in (
        ("describe_load_balancers", "LoadBalancers", "LoadBalancerArn"),
        ("describe_target_groups", "TargetGroups", "TargetGroupArn"),
    ):
        for each in _every(balancing, call, key):
            told = balancing.describe_tags(ResourceArns=[each[name]])["TagDescriptions"]
            yield Leftover(key, each[name], tags_of(told[0]["Tags"] if told else []))


def _storage(client: Client) -> Iterator[Leftover]:
    s3, efs = client("s3"), client("efs")
    for each in s3.list_buckets()["Buckets"]:
        try:
            tags = tags_of(s3.get_bucket_tagging(Bucket=each["Name"])["TagSet"])
        except s3.exceptions.ClientError:
            tags = {}
        yield Leftover("Buckets", each["Name"], tags)
    for each in _every(efs, "describe_file_systems", "FileSystems"):
        yield Leftover("FileSystems", each["FileSystemId"], tags_of(each.get("Tags")))
        id_ = each["FileSystemId"]
        for target in efs.describe_mount_targets(FileSystemId=id_)["MountTargets"]:
            yield Leftover("MountTargets", target["MountTargetId"])
    for each in _every(efs, "describe_access_points", "AccessPoints"):
        yield Leftover("AccessPoints", each["AccessPointId"], tags_of(each.get("Tags")))


def _names(client: Client) -> Iterator[Leftover]:
    route53 = client("route53")
    for each in _every(route53, "list_hosted_zones", "HostedZones"):
        id_ = each["Id"].rpartition("/")[2]
        told = route53.list_tags_for_resource(ResourceType="hostedzone", ResourceId=id_)
        yield Leftover("HostedZones", id_, tags_of(told["ResourceTagSet"]["Tags"]))


def _every(client: Any, call: str, key: str, **given: Any) -> Iterator[Any]:
    if client.can_paginate(call):
        for page in client.get_paginator(call).paginate(**given):
            yield from page[key]
    else:
        yield from getattr(client, call)(**given)[key]
