"""What is read of pods, through the real client of an API server that gives prepared answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from perennial.contracts import LogLine
from perennial.errors import PerennialError
from perennial.files import make_private
from perennial.paths import cluster_state
from perennial.platforms.kubernetes import identity, names
from perennial.platforms.kubernetes.chart import adopting
from perennial.platforms.kubernetes.client import Api, ApiError
from perennial.platforms.kubernetes.deployer import KubernetesDeployer
from perennial.platforms.kubernetes.doctor import pods as examined
from perennial.platforms.kubernetes.runtime import KubernetesRuntime
from perennial.spec import loads

SPEC = """
name: lab
platform: kubernetes
workers: {cpu: {count: 3}}
jupyter: null
kubernetes: {image: "dask:1", namespace: ns}
"""
PODS = "/api/v1/namespaces/ns/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/ns/deployments"
SCALERS = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers"


class Server:
    """An API server: its answers by path, and the containers whose logs were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.containers: list[str | None] = []

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        if path.endswith("/log"):
            self.containers.append(query.get("container", [None])[0])
        found = self.answers.get(path)
        if found is None:
            return 404, json.dumps({"message": f"{path} not found"}).encode()
        if isinstance(found, ApiError):
            return found.status, json.dumps({"message": str(found)}).encode()
        return 200, found.encode() if isinstance(found, str) else json.dumps(found).encode()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            status, body = made.answer(split.path, parse_qs(split.query))
            self.send_response(status)
            kind = "text/plain" if split.path.endswith("/log") and status == 200 else "json"
            self.send_header("Content-Type", kind if "/" in kind else f"application/{kind}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        cluster = {"server": f"http://127.0.0.1:{listening.server_address[1]}"}
        config = {
            **{"apiVersion": "v1", "kind": "Config", "current-context": "c"},
            "clusters": [{"name": "c", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        yield made
        listening.shutdown()


@pytest.fixture
def running(server: Server) -> KubernetesRuntime:
    made = KubernetesRuntime("kubernetes", "lab")
    made.spec = loads(SPEC)
    return made


def pod(name: str, phase: str = "Running", *beside: str) -> dict[str, Any]:
    """A pod of cpu, with somebody's containers before its own."""
    metadata = {"name": name, "namespace": "ns", "labels": names.labels("lab", "worker", "cpu")}
    containers = [{"name": each} for each in (*beside, "dask")]
    ready = [{"type": "Ready", "status": str(phase == "Running")}]
    status = {"phase": phase, "conditions": ready}
    return {"metadata": metadata, "spec": {"containers": containers}, "status": status}


def test_pods_that_were_evicted_are_no_members(server: Server, running: KubernetesRuntime) -> None:
    server.answers[PODS] = {
        "items": [pod("cpu-a"), pod("cpu-b", "Failed"), pod("cpu-c", "Succeeded")]
    }
    found = running.status()
    assert found.sizes == {"cpu": 1}
    assert [row.state for row in found.services] == ["RUNNING", "FAILED", "SUCCEEDED"]
    assert [each.text for each in examined(running)] == ["1 of 1 ready"]


def test_a_log_that_cannot_be_read_hides_no_other(
    server: Server, running: KubernetesRuntime
) -> None:
    server.answers[PODS] = {"items": [pod("cpu-a"), pod("cpu-b"), pod("cpu-c", "Running", "mesh")]}
    server.answers[f"{PODS}/cpu-b/log"] = ApiError("container is waiting to start", 400)
    for name in ("cpu-a", "cpu-c"):
        server.answers[f"{PODS}/{name}/log"] = f"of {name}\n"
    assert [*running.logs(None, 10, False)] == [
        LogLine("cpu-a", "of cpu-a"),
        LogLine("cpu-b", "(cannot read the log of cpu-b: container is waiting to start)"),
        LogLine("cpu-c", "of cpu-c"),
    ]
    # Beside a sidecar, the API server answers only who names a container.
    assert server.containers == ["dask"] * 3
    for follow in (False, True):
        with pytest.raises(ApiError, match="cannot read the log of cpu-b: container is waiting"):
            [*running.logs("cpu-b", 10, follow)]
    assert [*running.logs("cpu-a", 10, True)] == [LogLine("cpu-a", "of cpu-a")]


def test_no_command_goes_to_another_api_server(
    server: Server, running: KubernetesRuntime, tmp_path: Path
) -> None:
    """A `down` there would find nothing, and forget a cluster that goes on."""
    server.answers[PODS] = {"items": []}
    server.answers["/api/v1/namespaces/ns"] = {"metadata": {"name": "ns", "uid": "1"}}
    paths = cluster_state("lab")
    make_private(paths.root)
    paths.spec.write_text(SPEC)
    identity.remember("lab", Api(), "ns")
    KubernetesRuntime("kubernetes", "lab").scale({}, False, print, print)
    known = identity.path("lab")
    # The same under another address, as from inside of Kubernetes.
    known.write_text(known.read_text().replace("http://127.0.0.1", "https://10.0.0.1"))
    assert running.api
    # Another one, as of staging and production.
    server.answers["/api/v1/namespaces/ns"]["metadata"]["uid"] = "2"
    said = (
        r"^lab: stands on https://10\.0\.0\.1:\d+, and the context c leads to http://127\.0\.0\.1:"
        r"\d+; `kubectl config use-context c` leads back; if both are one, remove .*/lab/api-server"
    )
    deployer: Any = KubernetesDeployer
    for command in (
        lambda: KubernetesRuntime("kubernetes", "lab").restart("cpu", print, print),
        lambda: deployer("kubernetes").down("lab", True, print),
        lambda: deployer("kubernetes").refresh("lab", print),
        lambda: deployer("kubernetes").check_room(loads(SPEC), True, print),
    ):
        with pytest.raises(PerennialError, match=said):
            command()
    assert paths.spec.exists()


def test_what_an_adoption_refuses_does_not_keep_it_from_being_undone(server: Server) -> None:
    def deployment(component: str) -> dict[str, Any]:
        labels = {"chart": "dask-2024.1.1", "release": "lab", "app": "dask", "heritage": "Helm"}
        container = {"name": "dask", "args": ["dask", "worker", "--name", "own"]}
        return {
            "metadata": {"name": f"lab-{component}", "labels": {**labels, "component": component}},
            "spec": {
                "replicas": 9,
                "selector": {"matchLabels": labels},
                "template": {"spec": {"containers": [container]}},
            },
            "status": {},
        }

    server.answers[DEPLOYMENTS] = {"items": [deployment("worker"), deployment("scheduler")]}
    server.answers[SCALERS] = {"items": []}
    found = adopting.adopted(Api(), "lab", "ns")
    assert [(each.name, each.replicas) for each in found.groups] == [("worker", 9)]
    assert found.labels == {"app": "dask", "release": "lab"}
