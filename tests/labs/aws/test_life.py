"""Clusters on AWS from `perennial up` to `perennial down`: the real engine, and moto for AWS.

Each call that was made is then held against the policy that `perennial aws policy` prints.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.spec import load
from tests.homes import PERENNIAL, run
from tests.labs.aws.lab import KEY, ROOT, Lab
from tests.labs.aws.provider.main import KEY as PLUGIN
from tests.labs.aws.rights import Asked, allows
from tests.labs.aws.test_policy import PLATFORMS, rights

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(900)]

#: What `down` keeps, as it says; the rest goes.
KEPT = {"fargate": {"FileSystems", "AccessPoints"}, "ec2": {"Volumes"}}
#: What AWS makes by itself, without tags: interfaces, zones of Cloud Map, disks of instances.
UNTAGGED = {"NetworkInterfaces", "HostedZones", "MountTargets", "EcsTasks", "Volumes"}
UNTAGGED |= {"MetricFilters"}


class Operator:
    """Somebody with a home, a cluster file, and an account of AWS."""

    def __init__(self, lab: Lab, folder: Path, platform: str) -> None:
        self.file = folder / "cluster.yaml"
        self.spec: dict[str, Any] = yaml.safe_load((ROOT / f"examples/{platform}.yaml").read_text())
        # A group of a fixed size is resized without asking the scheduler, which does not run here.
        self.spec["workers"]["fixed"] = {"count": 1, "threads": 1, "memory": "2 GiB"}
        topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
        self.spec[platform]["alarms"] = {"topic": topic}
        if platform == "ec2":
            self.spec[platform]["workers"]["cpu"] = {"warm": {"min": 2}}
        self.environment = {
            **lab.environment_of(folder / "states"),
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "s"),
            "COLUMNS": "200",
        }

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command; return what it says."""
        self.file.write_text(json.dumps(self.spec))
        return run(
            *(PERENNIAL, *words),
            environment=self.environment,
            code=code,
            folder=self.file.parent,
            timeout=600,
        )


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_cluster_from_up_to_down(aws: Lab, tmp_path: Path, platform: str) -> None:
    operator = Operator(aws, tmp_path, platform)
    planned = operator.run("plan", "-f", "cluster.yaml")
    assert aws.leftovers() == []
    assert "create" in planned
    said = operator.run("up", "--yes", "-f", "cluster.yaml")
    assert "lab is up" in said
    made = aws.leftovers()
    untagged = {each.kind for each in made if each.tags.get("perennial:cluster") != "lab"}
    assert untagged <= UNTAGGED
    assert {each.tags.get("cost-centre") for each in made if each.tags} == {"physics"}
    # Nothing to do, and nothing done.
    assert "nothing to change" in operator.run("plan", "-f", "cluster.yaml")
    assert "made" not in operator.run("up", "--yes", "-f", "cluster.yaml").split(" is up", 1)[1]
    assert "scheduler" in operator.run("status", "-f", "cluster.yaml")
    operator.run("logs")
    # The size is then the operator's: no plan takes it back.
    operator.run("scale", "-f", "cluster.yaml", "fixed=2")
    assert operator.run("status", "-f", "cluster.yaml").count("fixed-") == 2
    operator.run("down", "--force", "-f", "cluster.yaml")
    left = aws.leftovers()
    assert {each.kind for each in left} <= KEPT[platform]
    assert all(each.tags.get("perennial:cluster") == "lab" for each in left)
    assert_allowed(aws, operator.file)


def assert_allowed(aws: Lab, file: Path) -> None:
    """Hold every call of the plugin and of the commands against the policy."""
    policy, asked = rights(load(file)), Asked()
    calls = [call for call in aws.calls() if call.key in {KEY, PLUGIN} and call.status < 500]
    needs = {need: call.operation for call in calls for need in asked.by(call)}
    assert len(needs) > 100
    refused = [
        f"{need.action} on {need.resource} {dict(need.context)}"
        for need in needs
        if not allows(policy, need)
    ]
    assert refused == [], "\n".join(refused)
    # Each right is needed: without any statement of what is made, something is refused.
    assert not all(allows(policy[:3], need) for need in needs)


def test_the_commands_print_it(tmp_path: Path) -> None:
    words = (sys.executable, "-m", "perennial", "aws", "policy", "-f")
    for platform in PLATFORMS:
        said = run(
            *(*words, str(ROOT / f"examples/{platform}.yaml"), "--account", "123456789012"),
            environment={"HOME": str(tmp_path)},
            apart=True,
        )
        spec = load(ROOT / f"examples/{platform}.yaml")
        assert json.loads(said)["Statement"] == [each.to_json() for each in rights(spec)]
    said = run(
        *(*words, str(ROOT / "examples/hosts.yaml")), environment={"HOME": str(tmp_path)}, code=1
    )
    assert said == "lab: on the platform hosts, not on AWS; this is for ec2, fargate\n"
