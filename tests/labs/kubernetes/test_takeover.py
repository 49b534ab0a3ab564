"""A stack of the first version is taken over: nothing is made anew that somebody would miss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.stacks.kubernetes import VARIABLES
from tests.homes import wait_until
from tests.labs.kubernetes.lab import Lab, running
from tests.labs.kubernetes.stack import Stack
from tests.labs.kubernetes.test_stack import there

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]  # may wait for the lab

FIRST = Path(__file__).with_name("first_version.yaml")
#: The cluster that was recorded.
TREE: dict[str, Any] = {
    "name": "lab",
    "workers": {"cpu": {"scale": {"min": 1, "max": 3}}, "gpu": {"count": 2}},
    "kubernetes": {
        "image": "dask:1",
        "namespace": "dask",
        "jupyter": {"storage": {"size": "1Gi"}},
    },
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running() as lab:
        lab.kubectl("create", "namespace", "dask")
        yield lab


def identities(lab: Lab) -> dict[str, str]:
    """Return the identity of each object: another one was made anew."""
    kinds = "deployments,services,secrets,persistentvolumeclaims"
    row = "{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{'\\n'}{end}"
    listed = lab.kubectl("-n", "dask", "get", kinds, "-o", f"jsonpath={row}")
    return dict(line.split() for line in listed.splitlines() if line)


def test_a_stack_of_the_first_version_is_taken_over(lab: Lab, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "project")
    stack.skip = True
    stack.environment |= VARIABLES  # the recorded Secrets have other keys in them
    stack.recorded = yaml.safe_load(FIRST.read_text())
    stack.run("up", TREE)
    lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=3")
    before, authority = identities(lab), stack.outputs["ca"]
    assert {"Deployment/lab-scheduler", "PersistentVolumeClaim/lab-jupyter"} < before.keys()

    stack.recorded = []
    steps = stack.changed("up", TREE)
    assert not [name for name, each in steps.items() if "replace" in str(each)], steps
    after = identities(lab)
    assert before.items() <= after.items(), "made anew, or gone"
    assert stack.outputs["ca"] == authority
    replicas = ("-n", "dask", "get", "deployment", "lab-cpu", "-o", "jsonpath={.spec.replicas}")
    assert lab.kubectl(*replicas) == "3"
    assert stack.changed("up", TREE) == {}
    assert stack.changed("up", TREE, refresh=True) == {}

    stack.run("destroy", TREE)
    wait_until(lambda: there(lab) == {"persistentvolumeclaim/lab-jupyter"}, 60)
