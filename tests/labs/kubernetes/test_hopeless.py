"""What can never be ready ends an `up` in one line, long before its time; corrected, it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from tests.labs.kubernetes.lab import Lab
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.person import Person
from tests.labs.kubernetes.test_story import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

#: Seconds; the engine would wait for ten minutes.
SOON = 480


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with with_node("dask") as lab:
        yield lab


@pytest.fixture(scope="module")
def person(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Person:
    spec = yaml.safe_load(CLUSTER)
    spec["workers"]["cpu"]["count"] = 1
    return Person(tmp_path_factory.mktemp("home"), spec)


def refused(person: Person) -> str:
    """Fail to deploy; return the one line that says why."""
    begun = time.monotonic()
    said = person.run("up", "--yes", code=1)
    taken = time.monotonic() - begun
    (line,) = [each for each in said.splitlines() if "cpu: " in each or "cancel" in each]
    print(f"\n{taken:.0f} s: {line}")
    assert taken < SOON
    return line


def test_what_can_never_be_ready_is_said_at_once_and_mended_by_another_up(
    lab: Lab, person: Person
) -> None:
    cpu = person.spec["workers"]["cpu"]
    options = person.spec["kubernetes"]

    # An image that is nowhere.
    options["workers"] = {"cpu": {"image": "127.0.0.1:9/nowhere:1"}}
    said = refused(person)
    assert "lab: cpu: 127.0.0.1:9/nowhere:1: " in said
    assert said.endswith("; correct kubernetes.image or image_pull_secrets")
    assert "lab is up" not in person.run("status")
    options["workers"] = {"cpu": {"image": "Nowhere"}}
    said = refused(person)
    assert "lab: cpu: Nowhere: " in said

    # The same once more, of a cluster that stands otherwise; then all of it.
    del options["workers"]
    assert "lab is up" in person.run("up", "--yes")

    # A quota, which the old pods fill; raised, the same file goes on.
    lab.kubectl("-n", "dask", "create", "quota", "small", "--hard=pods=4")
    cpu["count"] = 2
    said = refused(person)
    assert "lab: cpu: gets no pods: " in said
    assert "exceeded quota: small" in said
    assert said.endswith("; raise the quota, or lower the group's size")
    lab.kubectl("-n", "dask", "delete", "quota", "small")
    assert "lab is up" in person.run("up", "--yes")

    # A node that is not there, and of which no autoscaler says anything.
    options["workers"] = {"cpu": {"node_selector": {"pool": "none"}}}
    said = refused(person)
    assert "lab: cpu: no node takes it: " in said
    assert "didn't match Pod's node affinity/selector" in said
    lab.kubectl("label", "node", "n1", "pool=none")
    assert "lab is up" in person.run("up", "--yes")
    assert person.plan() == []
    person.run("down", "--force")
