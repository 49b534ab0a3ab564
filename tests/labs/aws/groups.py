"""What moto's Auto Scaling lacks: instance refreshes, and the answers to lifecycle hooks.

A refresh replaces every instance at once; the real one does so by and by. Hooks are answered and
change nothing: moto's instances are in service from the first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult


@contextmanager
def refreshing() -> Iterator[None]:
    """Add the calls to moto."""
    refreshes: list[dict[str, Any]] = []

    def start_instance_refresh(self: Any) -> ActionResult:
        name = self._get_param("AutoScalingGroupName")
        backend = self.autoscaling_backend
        group = backend.describe_auto_scaling_groups([name])[0]
        for each in [one.instance.id for one in group.instance_states]:
            backend.terminate_instance(each, should_decrement=False)
        now = datetime.now(UTC)
        made = {
            **{"InstanceRefreshId": str(uuid.uuid4()), "AutoScalingGroupName": name},
            **{"Status": "Successful", "StartTime": now, "EndTime": now},
            "PercentageComplete": 100,
        }
        refreshes.insert(0, made)
        return ActionResult({"InstanceRefreshId": made["InstanceRefreshId"]})

    def describe_instance_refreshes(self: Any) -> ActionResult:
        name = self._get_param("AutoScalingGroupName")
        own = [each for each in refreshes if each["AutoScalingGroupName"] == name]
        return ActionResult({"InstanceRefreshes": own})

    def answered(_: Any) -> ActionResult:
        return EmptyResult()

    calls = {
        "start_instance_refresh": start_instance_refresh,
        "describe_instance_refreshes": describe_instance_refreshes,
        "complete_lifecycle_action": answered,
        "record_lifecycle_action_heartbeat": answered,
    }
    with ExitStack() as stack:
        for name, call in calls.items():
            stack.enter_context(patch.object(AutoScalingResponse, name, call, create=True))
        yield
