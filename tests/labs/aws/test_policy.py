"""The policy of who deploys: nothing that IAM does not know, and nothing wider than needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from perennial.aws.policy.packing import LIMIT, divided, merged, size
from perennial.aws.rights import Statement
from perennial.platforms.fargate.parts import ecs_cluster
from perennial.spec import ClusterSpec, load
from tests.labs.aws.lab import ROOT
from tests.labs.aws.rights import Need, allows, kinds_of, reference

PLATFORMS = ("ec2", "fargate")


def rights(spec: ClusterSpec, account: str = "123456789012") -> tuple[Statement, ...]:
    module = import_module(f"perennial.platforms.{spec.platform}.policy")
    return merged(module.deployer(spec, account))


@pytest.fixture(params=PLATFORMS)
def spec(request: pytest.FixtureRequest) -> ClusterSpec:
    return load(Path(ROOT / f"examples/{request.param}.yaml"))


def test_iam_knows_every_action_and_condition(spec: ClusterSpec) -> None:
    for each in rights(spec):
        for action in each.actions:
            kinds = kinds_of(action)
            assert kinds is not None, action
            prefix = action.partition(":")[0]
            known = {key for kind in kinds.values() for key in kind["condition_keys"]}
            for kind in kinds:
                about = reference()[prefix]["resources"].get(kind)
                known |= {*(about["condition_keys"] if about else ())}
            known = {key.partition("$")[0] for key in known} | {"iam:PassedToService"}
            for wanted in each.conditions.values():
                for key in wanted:
                    plain = key.partition("/")[0]
                    assert any(one.partition("/")[0] == plain for one in known), (action, key)


def test_everything_stands_only_where_no_resource_is_known(spec: ClusterSpec) -> None:
    for each in rights(spec):
        if "*" in each.resources:
            for action in each.actions:
                kinds = {kind for kind in kinds_of(action) or () if kind}
                # A list of tasks is of a cluster, by a condition.
                assert not kinds or "ArnLike" in each.conditions, action


def test_each_policy_is_of_a_size_that_iam_takes(spec: ClusterSpec) -> None:
    texts = list(divided(rights(spec)))
    assert 1 < len(texts) <= 10  # of a role
    assert max(map(size, texts)) <= LIMIT


def test_who_deploys_on_fargate_may_run_commands_in_its_tasks() -> None:
    """ECS asks for the right on the cluster and on the task."""
    own = load(Path(ROOT / "examples/fargate.yaml"))
    cluster, place = ecs_cluster(own.name), f"arn:aws:ecs:{own.options.region}:123456789012:"
    assert {kind for kind in kinds_of("ecs:ExecuteCommand") or () if kind} == {"cluster", "task"}
    for resource in (f"cluster/{cluster}", f"task/{cluster}/0a1b"):
        assert allows(rights(own), Need("ecs:ExecuteCommand", place + resource))
    assert not allows(rights(own), Need("ecs:ExecuteCommand", f"{place}task/other/0a1b"))


def test_a_policy_is_wide_enough_and_no_wider() -> None:
    tagged = {"StringEquals": {"aws:ResourceTag/perennial:cluster": "lab"}}
    own = [Statement(("ec2:DeleteVpc",), ("arn:aws:ec2:*:*:vpc/*",), tagged)]
    vpc = "arn:aws:ec2:eu-central-1:123456789012:vpc/vpc-1"
    ours = {"aws:ResourceTag/perennial:cluster": "lab"}
    assert allows(own, Need("ec2:DeleteVpc", vpc, ours))
    assert not allows(own, Need("ec2:DeleteVpc", vpc, {}))
    assert not allows(own, Need("ec2:DeleteVpc", vpc, {**ours, next(iter(ours)): "other"}))
    assert not allows(own, Need("ec2:CreateVpc", vpc, ours))
    assert not allows(own, Need("ec2:DeleteVpc", vpc.replace("vpc/", "subnet/"), ours))
    assert not allows(own, Need("ec2:DeleteVpc", "*", ours))
