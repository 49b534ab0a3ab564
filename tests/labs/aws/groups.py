"""What moto's Auto Scaling lacks: instance refreshes, and the answers to lifecycle hooks.

A refresh replaces every instance at once; the real one does so by and by. Hooks are answered and
change nothing: moto's instances are in service from the first. A group with instances is removed by
force alone, and takes its protected instances along; an instance takes its interface along, and has
one root disk.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from moto.autoscaling.exceptions import ResourceContentionError, ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models.instances import Instance
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data

_refreshes: list[dict[str, Any]] = []
_end = AutoScalingResponse.terminate_instance_in_auto_scaling_group
_delete = AutoScalingResponse.delete_auto_scaling_group
_terminate, _add_block_device = Instance.terminate, Instance.add_block_device
_create_version = LaunchTemplate.create_version


@contextmanager
def refreshing() -> Iterator[None]:
    """Add the calls to moto, and correct what it does otherwise than AWS."""
    calls = {
        "start_instance_refresh": _start_refresh,
        "describe_instance_refreshes": _describe_refreshes,
        "delete_auto_scaling_group": _delete_group,
        "terminate_instance_in_auto_scaling_group": _terminate_in_group,
        "complete_lifecycle_action": _answered,
        "record_lifecycle_action_heartbeat": _answered,
    }
    with ExitStack() as stack:
        for name, call in calls.items():
            stack.enter_context(patch.object(AutoScalingResponse, name, call, create=True))
        stack.enter_context(patch.object(Instance, "terminate", _terminated))
        stack.enter_context(patch.object(Instance, "add_block_device", _one_disk))
        stack.enter_context(patch.object(LaunchTemplate, "create_version", _version))
        yield


def _start_refresh(self: Any) -> ActionResult:
    name = self._get_param("AutoScalingGroupName")
    backend = self.autoscaling_backend
    group = backend.describe_auto_scaling_groups([name])[0]
    for each in [one.instance.id for one in group.instance_states]:
        backend.terminate_instance(each, should_decrement=False)
    now = datetime.now(UTC)
    made = {
        **{"InstanceRefreshId": str(uuid.uuid4()), "AutoScalingGroupName": name},
        **{"Status": "Successful", "StartTime": now, "EndTime": now, "PercentageComplete": 100},
    }
    _refreshes.insert(0, made)
    return ActionResult({"InstanceRefreshId": made["InstanceRefreshId"]})


def _describe_refreshes(self: Any) -> ActionResult:
    name = self._get_param("AutoScalingGroupName")
    own = [each for each in _refreshes if each["AutoScalingGroupName"] == name]
    return ActionResult({"InstanceRefreshes": own})


def _delete_group(self: Any) -> ActionResult:
    name = self._get_param("AutoScalingGroupName")
    for group in self.autoscaling_backend.describe_auto_scaling_groups([name]):
        if group.instance_states and not self._get_bool_param("ForceDelete", False):
            raise ResourceContentionError
        for each in group.instance_states:
            each.protected_from_scale_in = False
    removed: ActionResult = _delete(self)
    return removed


def _terminate_in_group(self: Any) -> ActionResult:
    """Say of an instance that no group has what AWS says; moto fails."""
    id_, groups = self._get_param("InstanceId"), self.autoscaling_backend.autoscaling_groups
    if not any(one.instance.id == id_ for each in groups.values() for one in each.instance_states):
        raise ValidationError(
            f"Instance Id not found - No managed instance found for instance ID {id_}"
        )
    ended: ActionResult = _end(self)
    return ended


def _answered(_: Any) -> ActionResult:
    return EmptyResult()


def _version(self: LaunchTemplate, data: dict[str, Any], description: str) -> Any:
    """Read the user data of a later version as moto does that of the first."""
    if isinstance(data.get("UserData"), str | bytes):
        data = {**data, "UserData": parse_user_data(data["UserData"])}
    return _create_version(self, data, description)


def _terminated(self: Instance) -> Any:
    for nic in self.nics.values():
        nic.delete_on_termination = True
    return _terminate(self)


def _one_disk(self: Instance, size: int, device_path: str, *rest: Any, **more: Any) -> None:
    """Put a disk into the place of moto's own, and not beside it."""
    if before := self.block_device_mapping.get(device_path):
        self.ec2_backend.detach_volume(before.volume_id, self.id, device_path)
        self.ec2_backend.delete_volume(before.volume_id)
    _add_block_device(self, size, device_path, *rest, **more)
