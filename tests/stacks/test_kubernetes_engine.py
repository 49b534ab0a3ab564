"""The component for Kubernetes with Pulumi's real engine and provider, which here write files."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.labs.hosts.base import UnavailableError
from tests.labs.kubernetes.stack import Stack
from tests.labs.pulumi import yaml_host
from tests.stacks.test_kubernetes import TREE, rendered

# The first time the provider is built, which takes a quarter of an hour.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(3000)]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "project", rendered=tmp_path / "rendered")


def program(**changes: Any) -> dict[str, Any]:
    tree = json.loads(json.dumps(TREE | changes))
    del tree["platform"]
    return dict(tree)


def test_what_is_there_is_what_is_rendered(stack: Stack) -> None:
    made = stack.changed("up", program())
    assert {step for steps in made.values() for step in steps} == {"create"}
    found = written(stack)
    for each in rendered(TREE).values():
        own = found.pop((each["kind"], each["metadata"]["name"]))
        ours = own["metadata"].get("annotations", {})
        for key in [key for key in ours if key.startswith("pulumi.com/")]:
            del ours[key]
        own["metadata"] = {key: value for key, value in own["metadata"].items() if value != {}}
        assert without_empty_lists(own) == without_empty_lists(each)
    assert {kind for kind, _ in found} == {"Secret"}
    # Nothing that is secret stands in clear in the state.
    secret = [text for each in found.values() for key, text in each["data"].items()]
    kept = stack.kept()
    for text in secret:
        plain = base64.b64decode(text).decode()
        assert text not in kept
        assert "CERTIFICATE" in plain or plain.strip() not in kept
    assert "PRIVATE KEY" not in kept


def test_a_change_is_one_property_of_one_resource(stack: Stack) -> None:
    tree = program()
    stack.run("up", tree)
    assert stack.changed("up", tree) == {}
    tree["kubernetes"]["workers"] = {"gpu": {"max_surge": 2}}
    told = stack.run("preview", tree)
    assert told["steps"] == {"lab-gpu-deployment": ["update"]}
    assert told["paths"] == {"lab-gpu-deployment": ["spec.strategy.rollingUpdate.maxSurge"]}
    tree["workers"]["gpu"]["count"] = 4
    assert stack.run("up", tree)["paths"]["lab-gpu-deployment"] == [
        "spec.replicas",
        "spec.strategy.rollingUpdate.maxSurge",
    ]
    # Another size of a group that is scaled is the scaler's.
    tree["workers"]["cpu"]["count"] = 3
    assert "lab-cpu-deployment" not in stack.changed("preview", tree)


def test_another_name_makes_other_objects_after_the_old_ones_are_gone(stack: Stack) -> None:
    stack.run("up", program())
    steps = stack.changed("up", program(name="other"))
    assert steps["lab-cpu-deployment"] == ["delete-replaced", "replace", "create-replacement"]
    assert steps["lab-authority"] == ["delete-replaced", "replace", "create-replacement"]
    # Notebooks outlive the cluster, under both names.
    notebooks = {"lab-jupyter", "other-jupyter"}
    left = written(stack)
    assert {one for kind, one in left if not one.startswith("other-")} == {"lab-jupyter"}
    assert {one for kind, one in left if kind == "PersistentVolumeClaim"} == notebooks
    stack.run("destroy", program(name="other"))
    assert {kind for kind, _ in written(stack)} == {"PersistentVolumeClaim"}


def test_a_yaml_program_with_a_provider_of_its_own(stack: Stack) -> None:
    try:
        host = yaml_host()
    except UnavailableError as error:
        pytest.skip(str(error))
    file = stack.folder / "Pulumi.yaml"
    cluster = {
        "type": "perennial:index:KubernetesCluster",
        "properties": program(),
        "options": {"providers": ["${rendered}"]},
    }
    provider = {
        "type": "pulumi:providers:kubernetes",
        "properties": {"renderYamlToDirectory": str(stack.rendered)},
    }
    project = {
        **json.loads(file.read_text()),
        "runtime": "yaml",
        "resources": {"rendered": provider, "lab": cluster},
    }
    file.write_text(json.dumps(project))
    environment = {
        **stack.environment,
        "PATH": f"{host}:{stack.environment['PATH']}",
    }
    for words in ("stack init dev", "up --yes --skip-preview"):
        subprocess.run(
            ["pulumi", "--non-interactive", *words.split()],
            cwd=stack.folder,
            env=environment,
            check=True,
            capture_output=True,
            timeout=300,
        )
    wanted = {(each["kind"], each["metadata"]["name"]) for each in rendered(TREE).values()}
    assert wanted < written(stack).keys()


def written(stack: Stack) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the files in the place of objects."""
    assert stack.rendered is not None
    every = [yaml.safe_load(path.read_text()) for path in stack.rendered.rglob("*.yaml")]
    return {(each["kind"], each["metadata"]["name"]): each for each in every}


def without_empty_lists(value: Any) -> Any:
    """Leave out what the provider does not write, and what means the same without it."""
    if isinstance(value, dict):
        return {key: without_empty_lists(one) for key, one in value.items() if one != []}
    return [without_empty_lists(one) for one in value] if isinstance(value, list) else value
