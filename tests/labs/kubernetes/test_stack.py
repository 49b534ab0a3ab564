"""`KubernetesCluster` with Pulumi's real engine and provider, and a real API server.

There is no node here, so pods are not waited for; `test_up` has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.paths import cluster_state
from perennial.platforms.kubernetes.runtime import KubernetesRuntime
from perennial.spec import loads
from perennial.stacked import remember
from tests.homes import wait_until
from tests.labs.kubernetes.lab import Lab, running
from tests.labs.kubernetes.person import Person
from tests.labs.kubernetes.stack import Stack

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]  # may wait for the lab

TREE: dict[str, Any] = {
    "name": "lab",
    "workers": {"cpu": {"scale": {"min": 1, "max": 3}}, "gpu": {"count": 2}},
    "kubernetes": {"image": "dask:1", "namespace": "dask"},
}
#: What Kubernetes makes by itself in every namespace.
USUAL = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
KINDS = (
    "deployments,services,configmaps,secrets,serviceaccounts,networkpolicies,"
    "poddisruptionbudgets,roles,rolebindings,persistentvolumeclaims,ingresses"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running() as lab:
        lab.kubectl("create", "namespace", "dask")
        yield lab


def tree(**changes: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(TREE | changes))
    return dict(found)


def there(lab: Lab) -> set[str]:
    """What stands in the namespace."""
    listed = lab.kubectl("-n", "dask", "get", KINDS, "-o", "name").split()
    short = {
        name.partition("/")[0].partition(".")[0] + "/" + name.partition("/")[2] for name in listed
    }
    return short - USUAL


def size(lab: Lab, name: str) -> str:
    where = ("-n", "dask", "get", "deployment", name, "-o", "jsonpath={.spec.replicas}")
    return lab.kubectl(*where)


@pytest.mark.smoke
def test_its_life(lab: Lab, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "project")
    stack.skip = True
    assert set(stack.changed("preview", tree())) > {"lab-cpu-deployment", "lab-client-secret"}
    assert there(lab) == set()

    stack.run("up", tree())
    made = there(lab)
    assert {"deployment/lab-cpu", "service/lab-scheduler", "secret/lab-worker-tls"} < made
    assert stack.changed("up", tree()) == {}
    assert stack.changed("up", tree(), refresh=True) == {}

    # One property.
    surge = tree(kubernetes={**TREE["kubernetes"], "workers": {"gpu": {"max_surge": 2}}})
    told = stack.run("preview", surge)
    assert told["paths"] == {"lab-gpu-deployment": ["spec.strategy.rollingUpdate.maxSurge"]}
    stack.run("up", surge)

    # The scaler's size stays, also when its Deployment is changed.
    lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=3")
    assert stack.changed("up", surge, refresh=True) == {}
    more = {
        **surge,
        "workers": {**TREE["workers"], "cpu": {**TREE["workers"]["cpu"], "threads": 2}},
    }
    assert stack.changed("up", more, refresh=True)["lab-cpu-deployment"] == ["update"]
    assert size(lab, "lab-cpu") == "3"

    # What somebody else does is found; forced, as `perennial up` does, it is mended.
    stack.environment["PULUMI_K8S_ENABLE_PATCH_FORCE"] = "true"
    lab.kubectl("-n", "dask", "scale", "deployment/lab-gpu", "--replicas=5")
    patch = '{"spec": {"strategy": {"rollingUpdate": {"maxSurge": 7}}}}'
    lab.kubectl("-n", "dask", "patch", "deployment", "lab-gpu", "-p", patch)
    lab.kubectl("-n", "dask", "delete", "service", "lab-scheduler")
    steps = stack.changed("up", more, refresh=True)
    assert steps["lab-gpu-deployment"] == ["update"]
    assert steps["lab-scheduler-service"] == ["create"]
    assert size(lab, "lab-gpu") == "2"
    surges = "jsonpath={.spec.strategy.rollingUpdate.maxSurge}"
    assert lab.kubectl("-n", "dask", "get", "deployment", "lab-gpu", "-o", surges) == "2"
    assert there(lab) == made

    # Another name: the old objects go first.
    steps = stack.changed("up", {**more, "name": "other"})
    assert steps["lab-scheduler-deployment"][0] == "delete-replaced"
    wait_until(lambda: all("/other" in name for name in there(lab)), 60)  # nobody awaits pods here

    # Two in one namespace.
    second = Stack(tmp_path / "second", name="second")
    second.skip = True
    second.run("up", tree())
    assert made < there(lab)
    second.run("destroy", tree())
    wait_until(lambda: all("/other" in name for name in there(lab)), 60)  # nobody awaits pods here

    stack.run("destroy", {**more, "name": "other"})
    wait_until(lambda: there(lab) == set(), 60)


def test_what_pods_wait_for_is_a_line_for_each_part(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spec = loads(yaml.safe_dump({**tree(), "platform": "kubernetes"}))
    remember(spec, "cluster.yaml", cluster_state("lab"))
    stack = Stack(tmp_path / "project")
    stack.skip = True
    stack.run("up", tree())

    def waits() -> dict[str, str]:
        running: Any = KubernetesRuntime
        return dict(line.split(" waits: ") for line in running("kubernetes", "lab").waits())

    parts = {f"lab: {part}" for part in ("scheduler", "cpu", "gpu", "jupyter", "scaler")}
    wait_until(lambda: waits().keys() == parts, 60)
    assert all("no nodes available" in why for why in waits().values())

    lab.kubectl("-n", "dask", "create", "quota", "small", "--hard=pods=6")
    lab.kubectl("-n", "dask", "scale", "deployment/lab-gpu", "--replicas=4")
    wait_until(lambda: "exceeded quota: small" in waits()["lab: gpu"], 60)
    stack.run("destroy", tree())
    lab.kubectl("-n", "dask", "delete", "quota", "small")
    wait_until(lambda: there(lab) == set(), 60)


@pytest.fixture
def token(lab: Lab) -> str:
    """Give the token of somebody who may only read pods."""
    lab.kubectl("-n", "dask", "create", "serviceaccount", "stranger")
    role = ("--verb=get,list,watch", "--resource=pods")
    lab.kubectl("-n", "dask", "create", "role", "stranger", *role)
    given = ("--role=stranger", "--serviceaccount=dask:stranger")
    lab.kubectl("-n", "dask", "create", "rolebinding", "stranger", *given)
    return lab.kubectl("-n", "dask", "create", "token", "stranger").strip()


def test_what_is_missing_is_one_line_before_anything_is_made(
    lab: Lab, token: str, tmp_path: Path
) -> None:
    person = Person(tmp_path, {**tree(), "platform": "kubernetes"})
    before = there(lab)

    def refused(config: dict[str, Any]) -> str:
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        person.environment["KUBECONFIG"] = str(tmp_path / "kubeconfig")
        said = person.run("up", "--yes", code=1).strip().splitlines()[-1]
        assert there(lab) == before
        assert not (tmp_path / "s" / "perennial" / "lab").exists()
        return said

    known = yaml.safe_load(lab.kubeconfig.read_text())
    person.spec["kubernetes"]["namespace"] = "nowhere"
    said = refused(known)
    assert "namespace nowhere does not exist; `kubectl create namespace nowhere`" in said

    person.spec["kubernetes"]["namespace"] = "dask"
    rights = {**known, "users": [{"name": "admin", "user": {"token": token}}]}
    said = refused(rights)
    assert "you may not create configmaps, delete configmaps, get configmaps" in said
    assert "in the namespace dask; ask for a role" in said

    expired = {**known, "users": [{"name": "admin", "user": {"token": f"{token}x"}}]}
    assert refused(expired).endswith("Unauthorized; log in to the cluster again")

    said = refused({**known, "current-context": "gone"})
    assert "kubeconfig:" in said
    assert "gone" in said
    assert "`kubectl config use-context`" in said

    lab.kubectl("-n", "dask", "create", "deployment", "lab-scheduler", "--image=dask:1")
    before = there(lab)
    assert "the Deployment dask/lab-scheduler is there" in refused(known)
    lab.kubectl("-n", "dask", "delete", "deployment", "lab-scheduler")
