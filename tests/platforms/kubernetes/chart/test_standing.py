"""What is remembered of an adopted release, and what the commands say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes.client import V1ObjectMeta, V1OwnerReference, V1Pod
from typer.testing import CliRunner

from perennial.cli import app
from perennial.errors import PerennialError
from perennial.paths import cluster_state, known_clusters
from perennial.platforms.kubernetes.chart import standing
from perennial.platforms.kubernetes.chart.release import Release, ReleaseGroup
from perennial.platforms.kubernetes.chart.scaler_objects import ADOPTS, Wanted
from perennial.platforms.kubernetes.chart.standing import OWNED, Adopted, ReleaseRuntime
from perennial.platforms.kubernetes.runtime import KubernetesRuntime
from perennial.spec import load

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:9"}}]
contexts: [{name: prod, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: prod
"""
WANTED = Wanted("dask:1", {"worker": (1, 4)}, idle=30, drain=20)


def release(name: str = "lab", replicas: int = 9) -> Release:
    groups = (
        ReleaseGroup("worker", f"{name}-worker", replicas, 2, 1, 10**9),
        ReleaseGroup("big-mem", f"{name}-worker-big-mem", 0),
    )
    labels = {"app": "dask", "release": name}
    return Release(name, "ns", "tcp://lab-scheduler.ns.svc:8786", "lab.ns.svc:80", labels, groups)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "config").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return tmp_path


def test_a_release_is_remembered_as_a_cluster_and_forgotten() -> None:
    assert standing.remember(release(), WANTED) == ""
    assert known_clusters() == ["lab"]
    spec = load(cluster_state("lab").spec, remembered=True)
    assert spec.scaled == ("worker",) or list(spec.scaled) == ["worker"]
    assert {name: group.count for name, group in spec.workers.items()} == {
        "worker": 4,
        "big-mem": 0,
    }
    assert Adopted.load("lab") == Adopted("ns", "prod")
    assert isinstance(standing.runtime("kubernetes", "lab"), ReleaseRuntime)
    assert type(standing.runtime("kubernetes", "other")) is KubernetesRuntime
    assert standing.remember(release(replicas=2), WANTED) == "", "adopted once more"
    standing.forget("lab")
    assert known_clusters() == []


@pytest.mark.parametrize(
    "words",
    [
        *("down --force", "refresh", "restart worker --force", "rotate", "rotate --ca --force"),
        *("open", "open dashboard", "enable", "disable", "revoke anna", "scale big-mem=1"),
    ],
)
def test_what_is_helms_is_said_in_a_line(words: str) -> None:
    standing.remember(release(), WANTED)
    done = CliRunner().invoke(app, [*words.split(), "-c", "lab"])
    assert isinstance(done.exception, PerennialError), done.output
    assert str(done.exception).startswith("lab: Helm owns this release; ")
    assert "\n" not in str(done.exception)
    assert known_clusters() == ["lab"]


def test_a_name_that_no_cluster_can_have_is_said_and_nothing_is_left() -> None:
    assert "do not find it" in standing.remember(release("a.b"), WANTED)
    assert known_clusters() == []


def test_another_cluster_of_that_name_stays(home: Path) -> None:
    paths = cluster_state("lab")
    paths.root.mkdir(parents=True)
    paths.spec.write_text("name: lab\nplatform: local\nworkers: {cpu: {}}\n")
    assert "a cluster lab of yours stands elsewhere" in standing.remember(release(), WANTED)
    assert load(paths.spec, remembered=True).platform == "local"
    standing.forget("lab")
    assert known_clusters() == ["lab"]


def test_every_command_that_changes_a_cluster_has_an_owner() -> None:
    assert OWNED.keys() >= KubernetesRuntime.cannot.keys()


def test_a_pod_is_of_the_group_of_its_deployment() -> None:
    groups = {"lab-worker": "worker", "lab-worker-big-mem": "big-mem"}

    def part(labels: dict[str, str], owner: str) -> str:
        made = V1OwnerReference(api_version="apps/v1", kind="ReplicaSet", name=owner, uid="1")
        about = V1ObjectMeta(name="x", labels=labels, owner_references=[made])
        return standing._part_of(V1Pod(metadata=about), groups)

    worker = {"component": "worker", "pod-template-hash": "5d"}
    assert part(worker, "lab-worker-5d") == "worker"
    assert part(worker, "lab-worker-big-mem-5d") == "big-mem"
    assert part({"component": "scheduler", "pod-template-hash": "5d"}, "lab-s-5d") == "scheduler"
    assert part({ADOPTS: "lab"}, "lab-perennial-5d") == "scaler"
