"""Alarms of a cluster on Fargate, for whoever is woken at night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi_aws import cloudwatch, ecs

from perennial.aws import names
from perennial.spec import ClusterSpec

from .aws import Account

#: Seconds of one point of a metric: ECS sends one a minute for each task.
PERIOD = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """When an alarm goes off: a service has had no task for so many minutes."""

    part: str
    title: str
    minutes: int


def rules(spec: ClusterSpec) -> list[Rule]:
    """List the alarms of a cluster; a group that may have no member has none. Pure."""
    found = [Rule("scheduler", "no-scheduler", 5)]
    for name, group in spec.workers.items():
        if group.scale.min if group.scale else group.count:
            found.append(Rule(name, "no-workers", 15))
    return found


def alarms(account: Account, cluster: ecs.Cluster, services: Mapping[str, ecs.Service]) -> None:
    """Register the alarms, where the file names a topic."""
    spec = account.spec
    if spec.options.alarms is None:
        return
    topic = account.value(lambda spec: [str(spec.options.alarms.topic)])
    for rule in rules(spec):
        cloudwatch.MetricAlarm(
            account.title(f"{rule.part}-{rule.title}"),
            name=names.name_of(spec.name, f"{rule.part}-{rule.title}"),
            alarm_description=f"Dask cluster {spec.name}: no task of {rule.part} runs",
            namespace="AWS/ECS",
            # Whatever it says: a service without a task sends none.
            metric_name="CPUUtilization",
            statistic="SampleCount",
            dimensions={"ClusterName": cluster.name, "ServiceName": services[rule.part].name},
            period=PERIOD,
            evaluation_periods=rule.minutes,
            threshold=1,
            comparison_operator="LessThanThreshold",
            treat_missing_data="breaching",
            alarm_actions=topic,
            ok_actions=topic,
            tags=account.tags(rule.part),
            opts=account.options(),
        )
