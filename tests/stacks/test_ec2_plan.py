"""Which part of a cluster on EC2 a resource belongs to, by its name."""

from __future__ import annotations

import pytest

from perennial.stacks.ec2_planning import part_of


@pytest.mark.parametrize(
    ("title", "part"),
    [
        ("authority", "certificates"),
        ("worker-certificate", "certificates"),
        ("worker-secret-version", "secrets"),
        ("bucket-private", "storage"),
        ("notebooks-access", "storage"),
        ("private-a", "network"),
        ("workers-from-scheduler-40000", "network"),
        ("scheduler-group", "network"),
        ("domain", "network"),
        ("scheduler-template", "scheduler"),
        ("scheduler-place", "scheduler"),
        ("scaler-role", "scheduler"),
        ("gpu-x-policy-0", "gpu-x"),
        ("gpu-x-instances", "gpu-x"),
        ("old-instances", "old"),
        ("cpu-no-workers", "alarms"),
        ("something-else", ""),
    ],
)
def test_a_resource_belongs_to_a_part(title: str, part: str) -> None:
    assert part_of(title) == part
