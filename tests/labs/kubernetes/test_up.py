"""`perennial up` on a real node: planned, made, used, changed with a drain, sized, taken down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from perennial.platforms.kubernetes.access import needed
from perennial.spec import loads
from tests.homes import wait_until
from tests.labs.kubernetes.lab import Lab
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.person import Person
from tests.labs.kubernetes.test_story import CLUSTER, client, python

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A node, and a namespace where Restricted is enforced."""
    with with_node("dask", restricted=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def person(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with the rights that `up` asks for and no more, and those to look at pods."""
    made = Person(tmp_path_factory.mktemp("home"), yaml.safe_load(CLUSTER))
    looking = [("", "pods/log", "get"), ("", "pods/exec", "get"), ("", "pods/exec", "create")]
    rights = sorted({*needed(loads(CLUSTER)), *looking})
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "operator", "namespace": "dask"},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
            for group, resource, verb in rights
        ],
    }
    lab.kubectl("apply", "-f", "-", text=yaml.safe_dump(role))
    lab.kubectl("-n", "dask", "create", "serviceaccount", "operator")
    given = ("--role=operator", "--serviceaccount=dask:operator")
    lab.kubectl("-n", "dask", "create", "rolebinding", "operator", *given)
    token = lab.kubectl("-n", "dask", "create", "token", "operator").strip()
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    (made.home / "kubeconfig").write_text(yaml.safe_dump(config))
    made.environment["KUBECONFIG"] = str(made.home / "kubeconfig")
    return made


def test_a_clusters_life(lab: Lab, person: Person) -> None:
    steps = person.plan()
    assert "+ create cpu pods" in steps
    assert not (person.home / "s" / "perennial" / "lab").exists(), "a plan leaves no trace"

    said = person.run("up", "--yes")
    assert "lab is up" in said
    assert "tls://lab-scheduler.dask.svc:8786" in said
    # It has waited for the workers: they compute at once.
    lab.kubectl("apply", "-f", "-", text=client("client", **{"lab.dask-perennial/client": "true"}))
    lab.kubectl("-n", "dask", "wait", "--for=condition=Ready", "pod/client")
    code = (
        "with connected() as c:\n"
        " assert len(c.sync(c.scheduler.identity, n_workers=-1)['workers']) == 4\n"
        " data = c.scatter({f'k{i}': i for i in range(40)})\n"
        " c.publish_dataset(data, name='kept')\n"
        " print(sum(c.gather(c.map(lambda x: x * x, range(50)))))\n"
    )
    assert python(lab, "client", code) == "40425"
    said = person.run("up", "--yes")
    assert "unchanged in" in said
    assert "changed," not in said
    assert person.plan() == []
    assert "4 workers" in person.run("status")
    assert "Registered to" in person.run("logs", "cpu")

    # A group's change drains, and the others' pods stay; no key is lost.
    person.spec["workers"]["cpu"]["env"] = {"COLOUR": "blue"}
    assert person.plan()[-1].startswith("~ update cpu ")
    assert person.plan()[-1].endswith("; drained first")
    before = lab.kubectl("-n", "dask", "get", "pods", "-o", "name")
    person.run("up", "--yes")
    after = lab.kubectl("-n", "dask", "get", "pods", "-o", "name")
    same = {pod.partition("-")[2][:4] for pod in set(before.split()) & set(after.split())}
    assert {"sche", "big-", "scal"} <= same
    count = "with connected() as c: print(sum(c.gather(c.get_dataset('kept')).values()))"
    assert python(lab, "client", count) == str(sum(range(40)))

    # Sizes.
    assert "cpu 3 → 2" in person.run("scale", "cpu=2")
    wait_until(lambda: "3 workers" in person.run("status"), 90)
    assert "cpu size 2 → 3" in " ".join(person.plan())

    # A change of the scheduler is announced as what it is.
    person.spec["scheduler"]["memory"] = "600 MiB"
    [line] = [step for step in person.plan() if " scheduler " in step and "LOST" in step]
    assert "ALL RUNNING WORK AND RESULTS ARE LOST" in line

    # Drift.
    lab.kubectl("-n", "dask", "delete", "networkpolicy", "lab-cpu")
    assert "NetworkPolicy" in person.run("refresh")
    person.run("up", "--yes")
    lab.kubectl("-n", "dask", "rollout", "status", "deployment/lab-cpu", "--timeout=120s")
    assert person.plan() == []

    lab.kubectl("-n", "dask", "delete", "pod", "client", "--now")
    person.run("down", "--force")
    kinds = "deployments,pods,services,secrets,networkpolicies,poddisruptionbudgets"
    left = lab.kubectl("-n", "dask", "get", kinds, "-o", "name")
    assert left.split() == []
