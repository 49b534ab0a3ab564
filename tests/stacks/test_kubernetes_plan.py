"""What the engine's steps on Kubernetes mean to a person."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pulumi.automation.events import OpType

from perennial.plan import lines
from perennial.spec import loads
from perennial.stacks import engine, planning
from perennial.stacks.engine import MissingEngineError
from perennial.stacks.kubernetes import token
from perennial.stacks.kubernetes_planning import described
from tests.stacks.test_kubernetes import TREE, rendered

LOST = "ALL RUNNING WORK AND RESULTS ARE LOST"


def step(op: OpType, name: str, old: Any, new: Any) -> Any:
    """A step as the engine tells it."""
    sides = [SimpleNamespace(inputs=side) if side else None for side in (old, new)]
    kind = token(old or new)
    urn = f"urn:pulumi:lab::perennial::x${kind}::{name}"
    return SimpleNamespace(op=op, type=kind, urn=urn, old=sides[0], new=sides[1])


def planned(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    """What the change from one cluster file to another does."""
    old = rendered(before) if before else {}
    new = rendered(after) if after else {}
    steps = []
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one != other:
            op = OpType.CREATE if one is None else OpType.DELETE if other is None else OpType.UPDATE
            renamed = one and other and one["metadata"]["name"] != other["metadata"]["name"]
            steps.append(step(OpType.REPLACE if renamed else op, name, one, other))
    spec = loads(yaml.safe_dump(after or before))
    return [" ".join(line.split()) for line in lines(described(spec, steps))]


def tree(**changes: Any) -> dict[str, Any]:
    return dict(json.loads(json.dumps({**TREE, **changes})))


def group(**changes: Any) -> dict[str, Any]:
    workers = {**TREE["workers"], "gpu": {**TREE["workers"]["gpu"], **changes}}
    return tree(workers=workers)


def no_engine() -> Any:
    raise AssertionError("the engine was asked")


def test_a_new_cluster_part_by_part() -> None:
    found = planned(None, TREE)
    assert "+ create cpu pods" in found
    assert [line.split()[2] for line in found if line.endswith(" pods")] == [
        *("scheduler", "cpu", "gpu", "jupyter", "scaler")
    ]
    ours = ["+ create certificates Authority, Certificate", "+ create secrets Secret"]
    spec = loads(yaml.safe_dump(TREE))
    assert [" ".join(line.split()) for line in lines(planning.first(spec, no_engine))] == [
        *ours,
        *found,
    ]
    assert "+ create scaler ConfigMap, NetworkPolicy, Role, RoleBinding, ServiceAccount" in found


@pytest.mark.parametrize(
    ("after", "line"),
    [
        (group(env={"A": "1"}), "~ update gpu containers[0].env[5]; drained first"),
        (group(count=1), "~ update gpu size 2 → 1; drained first"),
        (group(count=3), "~ update gpu size 2 → 3"),
        (tree(scheduler={"memory": "9 GiB"}), LOST),
        (tree(jupyter={"memory": "9 GiB"}), "its kernels end"),
        (tree(name="other"), f"~ replace scheduler lab-scheduler → other-scheduler; {LOST}"),
    ],
)
def test_a_change_and_its_cost(after: dict[str, Any], line: str) -> None:
    found = planned(TREE, after)
    assert any(each.endswith(line) for each in found), found


def test_what_goes_and_what_it_costs() -> None:
    found = planned(tree(), None)
    assert f"- delete scheduler pods; {LOST}" in found
    assert "- delete cpu pods; drained first" in found
    assert planned(TREE, tree()) == []


def test_a_plugin_that_is_not_there_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    with pytest.raises(MissingEngineError, match="`pulumi plugin install resource kubernetes 4"):
        engine.find_plugin("kubernetes", "pulumi-kubernetes")
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "pulumi-resource-kubernetes").touch(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert engine.find_plugin("kubernetes", "pulumi-kubernetes") == folder
