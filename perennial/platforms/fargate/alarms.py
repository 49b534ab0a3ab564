"""Alarms of a cluster on Fargate. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.aws.alarms import Metric, Rule, overdue
from perennial.platforms.fargate.parts import ecs_cluster
from perennial.sizes import least
from perennial.spec import ClusterSpec


def rules(spec: ClusterSpec) -> Iterator[Rule]:
    """List the alarms; a group that may have no member has none.

    Nothing asks how long a task takes to stop: ECS ends each after two minutes.
    """
    yield _without_task(spec, "scheduler", "no-scheduler", 5)
    for name, group in spec.workers.items():
        if least(group):
            yield _without_task(spec, name, "no-workers", 15)
    yield from overdue(spec)


def _without_task(spec: ClusterSpec, key: str, title: str, minutes: int) -> Rule:
    where = {"ClusterName": ecs_cluster(spec.name), "ServiceName": key}
    # How many points there are, whatever they say: a service without a task sends none.
    metric = Metric("AWS/ECS", "CPUUtilization", "SampleCount", where)
    return Rule(key, title, f"no task of {key} runs", metric, below=True, periods=minutes)
