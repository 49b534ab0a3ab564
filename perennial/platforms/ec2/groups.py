"""The Auto Scaling groups of a cluster, and their instances, as AWS lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perennial.aws import names
from perennial.aws.client import Aws
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.spec import ClusterSpec

#: Groups that one call may name, and values that one filter may have.
GROUPS, INSTANCES = 50, 200


@dataclass(frozen=True, slots=True)
class Standing:
    """An instance in its group."""

    #: `SCHEDULER`, or the name of a worker group.
    key: str
    id: str
    #: State in its group, such as ``InService`` or ``Terminating:Wait``.
    state: str
    healthy: bool
    type: str
    address: str
    #: Seconds since it was launched.
    uptime: float
    #: Why it is not well; empty for nothing.
    reason: str = ""

    @property
    def is_up(self) -> bool:
        """Whether its group counts on it."""
        return self.state == "InService" and self.healthy


def keys(spec: ClusterSpec) -> tuple[str, ...]:
    """List the parts of a cluster that have instances."""
    return (SCHEDULER, *spec.workers)


def groups(aws: Aws, spec: ClusterSpec) -> dict[str, Mapping[str, Any]]:
    """Describe the groups of a cluster that are there, by part."""
    called = {names.name_of(spec.name, key): key for key in keys(spec)}
    client = aws.client("autoscaling")
    found: dict[str, Mapping[str, Any]] = {}
    for some in _divided([*called], GROUPS):
        pages = aws.pages(
            f"list the instances of {spec.name}",
            client.describe_auto_scaling_groups,
            "AutoScalingGroups",
            AutoScalingGroupNames=some,
        )
        found |= {called[each["AutoScalingGroupName"]]: each for each in pages}
    return {key: found[key] for key in keys(spec) if key in found}


def instances(aws: Aws, spec: ClusterSpec) -> list[Standing]:
    """List the instances of a cluster, part by part."""
    listed = [
        (key, each) for key, group in groups(aws, spec).items() for each in group["Instances"]
    ]
    about = _described(aws, spec, [each["InstanceId"] for _, each in listed])
    return [_standing(key, each, about.get(each["InstanceId"], {})) for key, each in listed]


def _standing(key: str, member: Mapping[str, Any], about: Mapping[str, Any]) -> Standing:
    launched = about.get("LaunchTime")
    return Standing(
        key=key,
        id=str(member["InstanceId"]),
        state=str(member["LifecycleState"]),
        healthy=str(member["HealthStatus"]).lower() == "healthy",
        type=str(about.get("InstanceType", "")),
        address=str(about.get("PrivateIpAddress", "")),
        uptime=(datetime.now(UTC) - launched).total_seconds() if launched else 0.0,
        reason=str(about.get("StateReason", {}).get("Message", "")),
    )


def _described(aws: Aws, spec: ClusterSpec, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Ask EC2 for instances; one that was just launched may not be known there yet."""
    client = aws.client("ec2")
    found: dict[str, Mapping[str, Any]] = {}
    for some in _divided(ids, INSTANCES):
        # By a filter: an id that is not known yet is no error then.
        reservations = aws.pages(
            f"look at the instances of {spec.name}",
            client.describe_instances,
            "Reservations",
            Filters=[{"Name": "instance-id", "Values": some}],
        )
        found |= {each["InstanceId"]: each for one in reservations for each in one["Instances"]}
    return found


def failed(aws: Aws, group: str) -> str:
    """Return why the last activity of an Auto Scaling group failed; empty where it did not."""
    client = aws.client("autoscaling")
    told = aws.call(
        f"look at the activities of {group}",
        client.describe_scaling_activities,
        AutoScalingGroupName=group,
        MaxRecords=1,
    )["Activities"]
    if not told or told[0]["StatusCode"] not in ("Failed", "Cancelled"):
        return ""
    return " ".join(str(told[0].get("StatusMessage", "")).split())


def _divided(every: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(every), size):
        yield [*every[start : start + size]]
