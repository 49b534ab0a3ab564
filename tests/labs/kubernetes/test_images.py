"""Images that others have made: of Dask alone, of one that is too old, and JupyterLab's."""

from __future__ import annotations

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
from tests.labs.kubernetes.build import refresh
from tests.labs.kubernetes.lab import IMAGE, Lab, cache, running
from tests.labs.kubernetes.test_outside import Laptop
from tests.labs.kubernetes.test_story import apply, python, stand

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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    """A cluster on images that have nothing of ours, but for the scaler's."""
    with running() as lab:
        refresh(cache())
        lab.join("n1")
        own = CLUSTER["kubernetes"]
        own["image"] = images.load(lab, "dask-stock", *images.STOCK)
        own["jupyter"]["image"] = images.load(lab, "dask-jupyter", *images.JUPYTER)
        lab.inside("n1", "mkdir", "-p", "/var/lib/notebooks")
        lab.kubectl("apply", "-f", "-", text=yaml.safe_dump(VOLUME))
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
        " at = [a for a, w in c.scheduler_info(n_workers=-1)['workers'].items()"
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
    assert "ok" in next(line for line in said.splitlines() if "versions" in line), said


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
