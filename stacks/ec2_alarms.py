"""Alarms of a cluster on EC2, for whoever is woken at night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from pulumi_aws import autoscaling, cloudwatch

from perennial.aws import names
from perennial.platforms.ec2.parts import LEAVES, SCHEDULER
from perennial.spec import ClusterSpec

from .aws import Account

#: Seconds of one point of a metric.
PERIOD = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """When an alarm goes off: so many minutes in a row."""

    part: str
    title: str
    metric: str
    comparison: str
    minutes: int
    text: str

    @property
    def missing(self) -> str:
        """What no data means: that nothing is there."""
        return "breaching" if self.comparison.startswith("Less") else "notBreaching"


def rules(spec: ClusterSpec) -> list[Rule]:
    """List the alarms of a cluster. Pure."""
    below, above = "LessThanThreshold", "GreaterThanOrEqualToThreshold"
    found = [
        Rule(
            SCHEDULER,
            "no-scheduler",
            "GroupInServiceInstances",
            below,
            5,
            "no instance of the scheduler is in service",
        )
    ]
    for name, group in spec.workers.items():
        least = group.scale.min if group.scale else group.count
        if least:
            found.append(
                Rule(
                    name,
                    "no-workers",
                    "GroupInServiceInstances",
                    below,
                    15,
                    f"no instance of {name} is in service",
                )
            )
        found.append(
            Rule(
                name,
                "drain-overdue",
                "GroupTerminatingInstances",
                above,
                ceil((group.drain + LEAVES) / PERIOD) + 5,
                f"an instance of {name} drains for longer than it may",
            )
        )
    return found


def alarms(account: Account, standing: Mapping[str, autoscaling.Group]) -> None:
    """Register the alarms, where the file names a topic."""
    if account.spec.options.alarms is None:
        return
    topic = account.value(lambda spec: [str(spec.options.alarms.topic)])
    for rule in rules(account.spec):
        cloudwatch.MetricAlarm(
            account.title(f"{rule.part}-{rule.title}"),
            name=names.name_of(account.spec.name, f"{rule.part}-{rule.title}"),
            alarm_description=f"Dask cluster {account.spec.name}: {rule.text}",
            namespace="AWS/AutoScaling",
            metric_name=rule.metric,
            dimensions={"AutoScalingGroupName": standing[rule.part].name},
            statistic="Minimum",
            period=PERIOD,
            evaluation_periods=rule.minutes,
            threshold=1,
            comparison_operator=rule.comparison,
            treat_missing_data=rule.missing,
            alarm_actions=topic,
            ok_actions=topic,
            tags=account.tags(rule.part),
            opts=account.options(),
        )
