"""Images that others have made: of Dask alone, of one that is too old, and JupyterLab's."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.homes import wait_until
from tests.jupyterlab import run_cell
from tests.labs.kubernetes import images
from tests.labs.kubernetes.lab import IMAGE, Lab
from tests.labs.kubernetes.monitors import define
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.test_outside import Laptop
from tests.labs.kubernetes.test_story import apply, client, python, stand

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

CLUSTER: dict[str, Any] = {
    "name": "lab",
    "platform": "kubernetes",
    "scheduler": {"memory": "512 MiB"},
    "workers": {
        "cpu": {"count": 2, "memory": "256 MiB", "drain": "20 s"},
        "big": {"memory": "256 MiB", "resources": {"BIG": 1}, "scale": {"min": 1, "max": 2}},
    },
    "jupyter": {"memory": "768 MiB"},
    "kubernetes": {
        "namespace": "dask",
        "resources": {"requests": {"cpu": "50m"}},
        "scaler": {"image": IMAGE},
        "metrics": {
            "namespaces": ["monitoring"],
            "monitor": {"labels": {"release": "prometheus"}, "interval": "15s"},
        },
        "jupyter": {"storage": {"size": "1Gi", "storage_class": "lab"}},
    },
}
VOLUME = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "notebooks"},
    "spec": {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "lab",
        "local": {"path": "/var/lib/notebooks"},
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
                        ]
                    }
                ]
            }
        },
    },
}


#: What Prometheus does for a monitor: asks each address, and says what it was told.
SCRAPE = """
import http.client, json, ssl, sys
told = json.load(sys.stdin)
found = []
for target in told["targets"]:
    context = ssl.create_default_context(cadata=told["ca"])
    class Connection(http.client.HTTPSConnection):
        def connect(self):
            http.client.HTTPConnection.connect(self)
            self.sock = context.wrap_socket(self.sock, server_hostname=target["name"])
    asked = Connection(target["host"], target["port"], timeout=5)
    try:
        asked.request("GET", target["path"], headers=told["headers"])
        answer = asked.getresponse()
        found.append([answer.status, answer.read().decode()])
    except TimeoutError:
        found.append([0, "blocked"])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    """A cluster on images that have nothing of ours, but for the scaler's."""
    with with_node() as lab:
        own = CLUSTER["kubernetes"]
        own["image"] = images.load(lab, "dask-stock", *images.STOCK)
        own["jupyter"]["image"] = images.load(lab, "dask-jupyter", *images.JUPYTER)
        lab.inside("n1", "mkdir", "-p", "/var/lib/notebooks")
        lab.kubectl("apply", "-f", "-", text=yaml.safe_dump(VOLUME))
        define(lab)
        lab.kubectl("create", "namespace", "monitoring")
        stand(lab, home, yaml.safe_dump(CLUSTER))
        lab.kubectl("-n", "dask", "rollout", "status", "deployment/lab-jupyter")
        yield lab


@pytest.fixture(scope="module")
def laptop(lab: Lab, home: Path) -> Iterator[Laptop]:
    made = Laptop(home)
    made.run("connect", "lab", "--port-forward")
    yield made
    made.run("disconnect", code=None)


def test_an_image_of_dask_alone_runs_a_cluster_that_drains(lab: Lab, laptop: Laptop) -> None:
    here = lab.tried(
        "-n", "dask", "exec", "deploy/lab-cpu", "--", "python", "-c", "import perennial"
    )
    assert "No module named 'perennial'" in here
    code = (
        "with connected() as c:\n"
        " at = [a for a, w in c.sync(c.scheduler.identity, n_workers=-1)['workers'].items()"
        " if '-cpu-' in w['name']]\n"
        " data = c.scatter({f'k{i}': i for i in range(40)}, workers=at)\n"
        " c.publish_dataset(data, name='kept')\n"
        " print(len(at), sum(c.gather(c.map(lambda x: x * x, range(50)))))\n"
    )
    assert python(lab, "client", code) == "2 40425"
    chosen = ("-l", "dask-perennial/part=cpu", "-o", "name")
    one, *_ = lab.kubectl("-n", "dask", "get", "pods", *chosen).split()
    lab.kubectl("-n", "dask", "delete", one)
    count = "with connected() as c: print(sum(c.gather(c.get_dataset('kept')).values()))"
    assert python(lab, "client", count) == str(sum(range(40)))
    assert "3 workers" in laptop.run("status")
    said = laptop.run("doctor", code=None)
    assert "objects" in said
    (line,) = (line for line in said.splitlines() if " versions: " in line)
    assert "dask-perennial" not in line  # that of the image would not matter
    assert " client: reached the scheduler, and a worker of 2 groups" in said


def test_an_older_dask_is_refused_and_a_scaler_without_us(
    lab: Lab, home: Path, laptop: Laptop
) -> None:
    """In one line, where somebody looks; what ran before runs on."""
    own = CLUSTER["kubernetes"]
    older = images.load(lab, "dask-older", *images.OLDER)
    changed = {**own, "workers": {"cpu": {"image": older}}, "scaler": {}}
    (home / "cluster.yaml").write_text(yaml.safe_dump({**CLUSTER, "kubernetes": changed}))
    laptop.run("render", "cluster.yaml", "-o", "out", "--force")
    lab.kubectl("apply", "--server-side", "-k", str(home / "out"))
    dask = (
        ": found distributed 2025.11.0 in its image, and 2026.6 or newer is needed; name another"
        " one in kubernetes.image"
    )
    ours = (
        ": its image has no dask-perennial[kubernetes], which the scaler needs; name one that has"
        " it in kubernetes.scaler.image"
    )

    def said(command: str) -> str:
        return " ".join(laptop.run(command, code=None).split())

    wait_until(lambda: dask in said("status") and ours in said("status"), 120)
    found = said("doctor")
    assert dask in found
    assert ours in found
    code = "with connected() as c: print(c.submit(lambda x: x + 1, 1).result())"
    assert python(lab, "client", code) == "2"
    apply(lab, home, yaml.safe_dump(CLUSTER))


class Notebooks:
    """JupyterLab as somebody reaches it from outside."""

    def __init__(self, laptop: Laptop, home: Path) -> None:
        url, note = laptop.run("open").splitlines()
        self.url = url.removesuffix("/lab")
        self.token = Path(note.removeprefix("its token is in ")).read_text().strip()
        self.context = ssl.create_default_context(
            cafile=home / "state" / "perennial" / "lab" / "tls" / "ca.pem"
        )

    def ask(self, path: str, data: Any = None, token: str | None = None, method: str = "") -> Any:
        """Ask its API; None where it does not know who asks."""
        given = {"Authorization": f"token {self.token if token is None else token}"}
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, given)
        if method:
            request.method = method
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 403:
                    return None
                raise

    def run(self, code: str) -> str:
        """Run a cell in a new kernel; return what it prints."""
        import websocket

        kernel = self.ask("/api/kernels", {"name": "python3"})["id"]
        channel = websocket.create_connection(
            f"{self.url.replace('https', 'wss')}/api/kernels/{kernel}/channels",
            header={"Authorization": f"token {self.token}"},
            sslopt={"context": self.context},
            timeout=120,
        )
        return run_cell(channel, code)


def test_jupyters_pod_is_logged_in_to_and_its_notebooks_stay(
    lab: Lab, home: Path, laptop: Laptop
) -> None:
    pages = Notebooks(laptop, home)
    assert pages.ask("/api/contents", token="wrong") is None
    code = (
        "from distributed import Client\n"
        "with Client() as c: print(c.submit(sum, [1, 2, 3]).result(), c.scheduler.address)\n"
    )
    assert pages.run(code).strip() == "6 tls://lab-scheduler.dask.svc:8786"
    note = {"type": "file", "format": "text", "content": "kept"}
    assert pages.ask("/api/contents/note.txt", note, method="PUT")["name"] == "note.txt"
    lab.kubectl("-n", "dask", "delete", "pod", "-l", "dask-perennial/part=jupyter")
    lab.kubectl("-n", "dask", "rollout", "status", "deployment/lab-jupyter")

    def kept() -> str:
        try:
            return str(pages.ask("/api/contents/note.txt")["content"])
        except OSError:
            return ""

    wait_until(lambda: kept() == "kept", 120)


def read(lab: Lab, *words: str) -> Any:
    return json.loads(lab.kubectl("-n", "dask", "get", *words, "-o", "json"))


def told_by_the_monitors(lab: Lab) -> dict[str, Any]:
    """Follow each monitor as the operator does: its pods, their ports, its Secret."""
    targets, told = [], {}
    for monitor in read(lab, "podmonitors", "-l", "release=prometheus")["items"]:
        chosen = monitor["spec"]["selector"]["matchLabels"]
        labels = ",".join(f"{key}={text}" for key, text in chosen.items())
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["scheme"] == "https"
            reference = endpoint["authorization"]["credentials"]
            secret = read(lab, "secret", reference["name"])["data"]
            token = base64.b64decode(secret[reference["key"]]).decode()
            ca = endpoint["tlsConfig"]["ca"]["secret"]
            assert ca["name"] == reference["name"], "one Secret is all that it has to read"
            told = {
                "ca": base64.b64decode(secret[ca["key"]]).decode(),
                "headers": {"Authorization": f"{endpoint['authorization']['type']} {token}"},
            }
            for pod in read(lab, "pods", "-l", labels)["items"]:
                ports = pod["spec"]["containers"][0]["ports"]
                (port,) = (each for each in ports if each["name"] == endpoint["port"])
                targets.append(
                    {
                        "host": pod["status"]["podIP"],
                        "port": port["containerPort"],
                        "path": endpoint["path"],
                        "name": endpoint["tlsConfig"]["serverName"],
                    }
                )
    return {**told, "targets": targets}


def test_the_metrics_are_read_as_the_monitors_say_and_by_nobody_else(lab: Lab) -> None:
    reader = json.loads(client("prometheus"))
    reader["metadata"]["namespace"] = "monitoring"
    del reader["spec"]["volumes"], reader["spec"]["containers"][0]["volumeMounts"]
    lab.kubectl("apply", "-f", "-", text=json.dumps(reader))
    lab.kubectl("-n", "monitoring", "wait", "--for=condition=Ready", "pod/prometheus")
    told = told_by_the_monitors(lab)
    assert len(told["targets"]) == 4  # the scheduler, two of cpu, one of big

    def scraped(namespace: str, pod: str, told: dict[str, Any]) -> list[list[Any]]:
        words = ("-n", namespace, "exec", "-i", pod, "--", "python", "-c", SCRAPE)
        found: list[list[Any]] = json.loads(lab.kubectl(*words, text=json.dumps(told)))
        return found

    found = scraped("monitoring", "prometheus", told)
    assert [status for status, _ in found] == [200] * 4
    assert sum("dask_scheduler_workers" in text for _, text in found) == 1
    assert sum("dask_worker_tasks" in text for _, text in found) == 3
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        found = scraped("monitoring", "prometheus", {**told, "headers": headers})
        assert [status for status, _ in found] == [403] * 4
    elsewhere = scraped("dask", "client", told)
    assert [text for _, text in elsewhere] == ["blocked"] * 4
