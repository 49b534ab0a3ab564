"""The stand-in itself: each kind of resource through the life that Pulumi gives it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.labs.aws.lab import Lab
from tests.labs.aws.programs import TAGS, containers, network, raw
from tests.labs.aws.provider.schema import schema
from tests.labs.aws.provider.servicer import KINDS
from tests.labs.aws.stack import Body, Program


def lived(lab: Lab, folder: Path, body: Body) -> Program:
    """Bring a program up, find it unchanged, refreshed or not."""
    program = Program(lab, folder, body)
    preview = program.run("preview")
    assert preview.errors == []
    made = program.run("up")
    assert made.errors == []
    assert made.steps == preview.steps
    for action in ("up", "refresh", "preview"):
        again = program.run(action)
        assert (again.errors, again.steps) == ([], {}), (action, again.paths)
    return program


@pytest.mark.lab
def test_a_network(aws: Lab, tmp_path: Path) -> None:
    program = lived(aws, tmp_path, network)
    group = next(each for each in aws.leftovers() if each.kind == "SecurityGroups")
    rules = aws.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
    own = [rule for rule in rules if rule["GroupId"] == group.id]
    assert [(rule["IsEgress"], rule["FromPort"]) for rule in own] == [(False, 8786)]
    assert group.tags == TAGS
    # A tag is changed in place; another block makes another VPC, and all that stands in it.
    assert program.run("up", partial(network, team="a")).steps.keys() == {"vpc", "group", "rule"}
    changed = program.run("preview", partial(network, cidr="10.1.0.0/16", team="a"))
    assert "replace" in changed.steps["vpc"]
    assert "replace" in changed.steps["subnet"]
    assert program.run("destroy").errors == []
    assert aws.leftovers() == []


@pytest.mark.lab
def test_containers(aws: Lab, tmp_path: Path) -> None:
    program = lived(aws, tmp_path, containers)
    service = aws.client("ecs").describe_services(cluster="lab", services=["scheduler"])
    assert service["services"][0]["desiredCount"] == 1
    # Drift is seen, and undone.
    aws.client("ecs").update_service(cluster="lab", service="scheduler", desiredCount=3)
    assert program.run("refresh").errors == []
    assert program.run("up").paths == {"service": ["desiredCount"]}
    # Another image is another revision, and the service is updated.
    steps = program.run("up", partial(containers, image="dask:2")).steps
    assert steps["service"] == ["update"]
    assert "create-replacement" in steps["task"]
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json") if path.is_file())
    assert "hidden-from-state" not in kept
    assert program.run("destroy").errors == []
    assert aws.leftovers() == []


VPC = "aws:ec2/vpc:Vpc"
#: Resources, and what is said of them before anything is made.
CHECKED: dict[str, tuple[str, dict[str, Any], str]] = {
    "name": (VPC, {"cidrBlok": "10.0.0.0/16"}, "unknown property"),
    "type": (VPC, {"cidrBlock": 10}, "10 in the place of a string"),
    "missing": ("aws:ec2/subnet:Subnet", {"cidrBlock": "10.0.0.0/16"}, "missing required property"),
    "tag": (VPC, {"cidrBlock": "10.0.0.0/16", "tags": {"a" * 200: "b"}}, "1 to 128 letters"),
    "nested": (
        "aws:ecs/service:Service",
        {"networkConfiguration": {"subnet": ["a"]}},
        "networkConfiguration.subnets: missing required property",
    ),
    "days": ("aws:cloudwatch/logGroup:LogGroup", {"retentionInDays": 31}, "expected to be one of"),
}
#: The same of values that only the API's model refuses.
CALLED: dict[str, tuple[str, dict[str, Any], str]] = {
    "enum": (VPC, {"cidrBlock": "10.0.0.0/16", "instanceTenancy": "mine"}, "none of default"),
    "pattern": ("aws:cloudwatch/logGroup:LogGroup", {"name": "a b"}, "does not match"),
    "length": ("aws:iam/instanceProfile:InstanceProfile", {"name": "l" * 200}, "a length of 200"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_what_the_sdk_does_not_know_is_refused(name: str) -> None:
    token, inputs, wanted = CHECKED[name]
    faults = [*schema(token).faults(inputs), *KINDS[token].check(inputs)]
    assert any(wanted in f"{path}: {why}" for path, why in faults), faults


@pytest.mark.lab
def test_what_is_refused_is_not_made(aws: Lab, tmp_path: Path) -> None:
    resources = {name: [token, inputs] for name, (token, inputs, _) in CALLED.items()}
    program = Program(aws, tmp_path, partial(raw, resources=resources))
    said = "\n".join(program.run("up", continue_on_error=True).errors)
    for name, (_, _, wanted) in CALLED.items():
        assert wanted in said, (name, said)
    token, inputs, wanted = CHECKED["name"]
    said = "\n".join(program.run("up", partial(raw, resources={"a": [token, inputs]})).errors)
    assert wanted in said
    assert aws.leftovers() == []
