"""A cluster's life on real nodes: applied as rendered, used by TLS, resized without a loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from perennial.platforms.kubernetes.fleet import KubernetesFleet
from tests.homes import wait_until
from tests.labs.kubernetes.lab import IMAGE, Lab
from tests.labs.kubernetes.node import make_namespace, with_node

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(600)]

CLUSTER = f"""
name: lab
platform: kubernetes
scheduler: {{memory: 512 MiB}}
workers:
  cpu: {{count: 3, memory: 256 MiB, drain: 20 s}}
  big: {{memory: 256 MiB, resources: {{BIG: 1}}, scale: {{min: 1, max: 3, idle: 1 h}}}}
jupyter: null
kubernetes:
  image: {IMAGE}
  namespace: dask
  resources: {{requests: {{cpu: 50m}}}}
"""
SECURE = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
TLS = """
from distributed import Client
from distributed.security import Security

def connected(address="tls://lab-scheduler.dask.svc:8786"):
    return Client(address, timeout=15, security=Security(
        tls_ca_file="/tls/ca.pem", tls_client_cert="/tls/client.pem",
        tls_client_key="/tls/client-key.pem", require_encryption=True))
"""


def client(name: str, **labels: str) -> str:
    """Describe a pod from which somebody uses the cluster."""
    container = {
        "name": "client",
        "image": IMAGE,
        "command": ["sleep", "infinity"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    secret = {"secretName": "lab-client-tls", "defaultMode": 0o440}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "dask", "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "securityContext": SECURE,
                "containers": [container],
                "volumes": [{"name": "tls", "secret": secret}],
            },
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def perennial(home: Path, *words: str) -> str:
    environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    """A cluster that was applied as it was rendered, where Restricted is enforced."""
    with with_node() as lab:
        stand(lab, home, CLUSTER)
        lab.kubectl("apply", "-f", "-", text=client("stranger"))
        lab.kubectl("-n", "dask", "wait", "--for=condition=Ready", "pod/stranger")
        yield lab


def stand(lab: Lab, home: Path, text: str) -> None:
    """Make a cluster stand as it is rendered, and a client beside it."""
    make_namespace(lab, "dask", restricted=True)
    (home / "cluster.yaml").write_text(text)
    secrets = perennial(home, "perennial.platforms.kubernetes.secrets", "cluster.yaml")
    lab.kubectl("apply", "-f", "-", text=secrets)
    apply(lab, home, text)
    lab.kubectl("apply", "-f", "-", text=client("client", **{"lab.dask-perennial/client": "true"}))
    lab.kubectl("-n", "dask", "wait", "--for=condition=Ready", "pod/client")


def apply(lab: Lab, home: Path, text: str) -> None:
    """Render a cluster file, apply it, and wait for its Deployments."""
    (home / "cluster.yaml").write_text(text)
    perennial(home, "perennial", "render", "cluster.yaml", "-o", "out", "--force")
    # A size that `kubectl scale` has set is the file's again.
    words = ("--server-side", "--force-conflicts", "--validate=strict")
    lab.kubectl("apply", *words, "-k", str(home / "out"))
    for part in ("scheduler", *yaml.safe_load(text)["workers"], "scaler"):
        lab.kubectl("-n", "dask", "rollout", "status", f"deployment/lab-{part}")


def python(lab: Lab, pod: str, code: str) -> str:
    """Run Python in a pod."""
    return lab.kubectl(
        "-n", "dask", "exec", "-i", pod, "--", "python", "-", text=TLS + code
    ).strip()


def test_a_client_computes_by_tls_and_knows_each_pod_by_its_name(lab: Lab) -> None:
    code = (
        "with connected() as c:\n"
        " print(sum(c.gather(c.map(lambda x: x * x, range(50)))))\n"
        " workers = c.sync(c.scheduler.identity, n_workers=-1)['workers']\n"
        " print(*(w['name'] for w in workers.values()))\n"
    )
    total, names = python(lab, "client", code).splitlines()
    assert total == "40425"
    pods = yaml.safe_load(
        lab.kubectl("-n", "dask", "get", "pods", "-o", "yaml", "-l", "app.kubernetes.io/name=dask")
    )["items"]
    workers = {
        pod["metadata"]["name"]
        for pod in pods
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
    }
    assert set(names.split()) == workers
    assert len(workers) == 4
    assert {
        container["restartCount"] for p in pods for container in p["status"]["containerStatuses"]
    } == {0}


def test_the_command_line_shows_what_runs(lab: Lab, home: Path) -> None:
    assert "lab                  kubernetes up" in perennial(home, "perennial", "list")
    said = perennial(home, "perennial", "status")
    assert "4 workers" in said
    assert "RUNNING" in said
    assert "Registered to" in perennial(home, "perennial", "logs", "cpu")


def test_a_pod_without_the_label_does_not_reach_the_scheduler(lab: Lab) -> None:
    code = (
        "import socket\n"
        "try:\n socket.create_connection(('lab-scheduler.dask.svc', 8786), 3); print('open')\n"
        "except TimeoutError: print('blocked')\n"
    )
    assert python(lab, "client", code) == "open"
    assert python(lab, "stranger", code) == "blocked"


def test_a_member_that_leaves_takes_no_key_along(lab: Lab) -> None:
    """Results on three members; two go one after another, each by the fleet and its own drain."""
    code = (
        "import subprocess, sys, time\n"
        "c = connected()\n"
        "workers = c.sync(c.scheduler.identity, n_workers=-1)['workers']\n"
        "names = {w['name']: a for a, w in workers.items()}\n"
        "cpu = [a for n, a in names.items() if '-cpu-' in n]\n"
        "data = c.scatter({f'k{i}': i for i in range(60)}, workers=cpu)\n"
        "print(len(cpu), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    # Published, so that the keys stay while another process looks.
    code = code.replace("sys.stdin.readline()\n", "c.publish_dataset(data, name='kept')\n")
    assert python(lab, "client", code) == "3"
    fleet = KubernetesFleet("cpu", "dask", "lab-cpu")
    for size in (2, 1):
        members = fleet.observe().members
        assert fleet.resize(size, members[:1]) == size
        wait_until(lambda size=size: len(fleet.observe().members) == size)
        assert {one.id for one in fleet.observe().members} == {one.id for one in members[1:]}
    count = "with connected() as c: print(sum(c.gather(c.get_dataset('kept')).values()))"
    assert python(lab, "client", count) == str(sum(range(60)))


def test_the_scaler_grows_its_own_group_and_no_other(lab: Lab) -> None:
    code = (
        "import time\n"
        "with connected() as c:\n"
        " f = [c.submit(time.sleep, 12, resources={'BIG': 1}, key=f's{i}') for i in range(6)]\n"
        " c.gather(f)\n"
    )
    with subprocess.Popen(
        [
            str(lab.root / "bin" / "kubectl"),
            "-n",
            "dask",
            "exec",
            "client",
            "--",
            "python",
            "-c",
            TLS + code,
        ],
        stdout=subprocess.DEVNULL,
    ) as running_work:
        fleet = KubernetesFleet("big", "dask", "lab-big")
        wait_until(lambda: fleet.observe().desired > 1, 60)
        assert KubernetesFleet("cpu", "dask", "lab-cpu").observe().desired == 1
        assert running_work.wait(120) == 0
