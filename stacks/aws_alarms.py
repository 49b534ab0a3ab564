"""Alarms of a cluster on AWS, for whoever is woken at night."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pulumi
from pulumi_aws import cloudwatch

from perennial.aws import names
from perennial.aws.alarms import NAMESPACE, NOTICE, OVERDUE, Rule, expiry, overdue_metric

from .aws import Account

#: Seconds between two looks at the clock.
HOUR = 3600


def alarms(
    account: Account,
    rules: Iterable[Rule],
    standing: Mapping[str, pulumi.Resource],
    logs: cloudwatch.LogGroup,
) -> None:
    """Register the alarms, where the file names a topic; ``standing`` is what they look at."""
    if account.spec.options.alarms is None:
        return
    for rule in rules:
        watched = standing.get(rule.part)
        if rule.metric.namespace == NAMESPACE:
            watched = _counted(account, rule, logs)
        _alarm(account, rule, *([watched] if watched else []))
    _expiry(account, logs)


def _alarm(account: Account, rule: Rule, *after: pulumi.Resource) -> None:
    topic = _topic(account)
    cloudwatch.MetricAlarm(
        account.title(rule.name),
        name=names.name_of(account.spec.name, rule.name),
        alarm_description=f"Dask cluster {account.spec.name}: {rule.text}",
        namespace=rule.metric.namespace,
        metric_name=rule.metric.name,
        dimensions=dict(rule.metric.dimensions),
        statistic=rule.metric.statistic,
        period=rule.metric.period,
        evaluation_periods=rule.periods,
        threshold=1,
        comparison_operator=rule.comparison,
        treat_missing_data=rule.missing,
        alarm_actions=topic,
        ok_actions=topic,
        tags=account.tags(rule.part),
        opts=account.options(*after),
    )


def _counted(account: Account, rule: Rule, logs: cloudwatch.LogGroup) -> cloudwatch.LogMetricFilter:
    """Have CloudWatch count the lines that the scaler writes while a drain is overdue."""
    return cloudwatch.LogMetricFilter(
        account.title(f"{rule.name}-lines"),
        name=names.name_of(account.spec.name, f"{rule.name}-lines"),
        log_group_name=logs.name,
        pattern=f'"{OVERDUE}"',
        metric_transformation=cloudwatch.LogMetricFilterMetricTransformationArgs(
            namespace=NAMESPACE, name=overdue_metric(account.spec.name), value="1"
        ),
        opts=account.options(),
    )


def _expiry(account: Account, logs: cloudwatch.LogGroup) -> None:
    """Register the alarm of the certificate that ends first.

    It compares the clock with the date that is known here, so nothing of the cluster has to run.
    CloudWatch's function EPOCH gives the time also where its metric has no data.
    """
    topic = _topic(account)
    any_metric = cloudwatch.MetricAlarmMetricQueryMetricArgs(
        namespace="AWS/Logs",
        metric_name="IncomingLogEvents",
        dimensions={"LogGroupName": logs.name},
        period=HOUR,
        stat="Sum",
    )
    cloudwatch.MetricAlarm(
        account.title("certificate-expiry"),
        name=names.name_of(account.spec.name, "certificate-expiry"),
        alarm_description=f"Dask cluster {account.spec.name}: a certificate ends within"
        f" {NOTICE.days} days; `perennial up` renews it",
        metric_queries=[
            cloudwatch.MetricAlarmMetricQueryArgs(id="any", metric=any_metric, return_data=False),
            cloudwatch.MetricAlarmMetricQueryArgs(
                id="now", expression="EPOCH(any)", label="now", return_data=True
            ),
        ],
        threshold=pulumi.Output.all(*account.ends).apply(expiry),
        comparison_operator="GreaterThanOrEqualToThreshold",
        evaluation_periods=1,
        treat_missing_data="ignore",
        alarm_actions=topic,
        ok_actions=topic,
        tags=account.tags("certificates"),
        opts=account.options(),
    )


def _topic(account: Account) -> pulumi.Input[list[pulumi.Input[str]]]:
    return account.value(lambda spec: [str(spec.options.alarms.topic)], "options.alarms.topic")
