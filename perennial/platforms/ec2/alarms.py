"""Alarms of a cluster on EC2. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from perennial.aws import names
from perennial.aws.alarms import PERIOD, Metric, Rule, overdue
from perennial.platforms.ec2.parts import LEAVES, SCHEDULER
from perennial.sizes import least
from perennial.spec import ClusterSpec


def rules(spec: ClusterSpec) -> Iterator[Rule]:
    """List the alarms."""
    yield _without_instance(spec, SCHEDULER, "no-scheduler", 5)
    for name, group in spec.workers.items():
        if least(group):
            yield _without_instance(spec, name, "no-workers", 15)
        text = f"an instance of {name} drains for longer than it may"
        leaving = _metric(spec, name, "GroupTerminatingInstances")
        minutes = ceil((group.drain + LEAVES) / PERIOD) + 5
        yield Rule(name, "drain-overdue", text, leaving, below=False, periods=minutes)
    yield from overdue(spec)


def _without_instance(spec: ClusterSpec, key: str, title: str, minutes: int) -> Rule:
    metric = _metric(spec, key, "GroupInServiceInstances")
    text = f"no instance of {key} is in service"
    return Rule(key, title, text, metric, below=True, periods=minutes)


def _metric(spec: ClusterSpec, key: str, name: str) -> Metric:
    group = {"AutoScalingGroupName": names.name_of(spec.name, key)}
    return Metric("AWS/AutoScaling", name, "Minimum", group)
