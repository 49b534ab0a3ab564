"""The security groups of a cluster on AWS, the same on both platforms."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from tests.stacks import test_ec2, test_fargate
from tests.stacks.test_aws_preview import run
from tests.stacks.test_registry import recorder

__all__ = ["recorder"]

# pulumi-aws says so while it is imported.
pytestmark = [
    pytest.mark.usefixtures("recorder"),
    pytest.mark.filterwarnings("ignore:s3.BucketV2 has been deprecated"),
]

TREES = {"ec2": test_ec2.TREE, "fargate": test_fargate.TREE}


@pytest.mark.parametrize("platform", TREES)
def test_groups_with_more_processes_share_the_rules_of_the_others(platform: str) -> None:
    groups = {"one": {"count": 1, "memory": "2 GiB"}, "two": {"count": 1, "memory": "2 GiB"}}
    groups["two"]["processes"] = 2
    made = run(platform, {**TREES[platform], "workers": groups})
    names = [name for _, name in made.made]
    assert len(names) == len(set(names))
    opened = {
        (inputs["fromPort"], inputs["toPort"])
        for name, inputs in made.inputs.items()
        if "-from-" in name and name.endswith("-40000")
    }
    assert opened == {(40000.0, 40007.0)}


@pytest.mark.parametrize("platform", TREES)
def test_ports_that_an_output_says_are_those_that_are_open(platform: str) -> None:
    groups: dict[str, Any] = {
        "one": {"count": 1, "memory": "2 GiB"},
        "two": {"count": 1, "memory": "2 GiB", "processes": pulumi.Output.from_input(3)},
        "three": {"count": 1, "memory": "2 GiB", "ports": pulumi.Output.from_input([50000, 50003])},
    }
    made = run(platform, {**TREES[platform], "workers": groups})
    opened = {
        name.rpartition("-")[2]: (inputs["fromPort"], inputs["toPort"])
        for name, inputs in made.inputs.items()
        if "-from-scheduler-" in name
    }
    # One rule: AWS refuses a second one of the same ports, as two groups may turn out to have.
    assert opened == {"members": (40000.0, 50003.0)}
