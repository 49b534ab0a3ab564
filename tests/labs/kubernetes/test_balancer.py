"""A scheduler that is reached from outside: by a load balancer, and by an Ingress."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.platforms.kubernetes.client import GONE, Api, ApiError
from tests.labs.hosts.base import install
from tests.labs.kubernetes.lab import Lab
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.person import Person
from tests.labs.kubernetes.test_story import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

#: Of the node: its kube-proxy takes what comes for a load balancer.
ADDRESS = "10.99.0.11"
HOST = "dask.example.org"
#: haproxy's configuration: it reads the name in the first bytes of TLS, and decrypts nothing.
PASSED = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend tls
    bind {address}:443
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend scheduler if {{ req.ssl_sni -i {host} }}
backend scheduler
    server scheduler {pod}
"""
CODE = """
from distributed import Client
with Client(timeout=60) as client:
    print(client.scheduler.address, client.submit(sum, [1, 2, 3]).result())
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with with_node("dask") as lab:
        yield lab


def give_address(stop: threading.Event) -> None:
    """Be the cloud's controller: write the address once the Service is there."""
    api = Api()
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}
    while not stop.wait(0.5):
        patch = api.core.patch_namespaced_service_status
        try:
            api.call("give an address", patch, "lab-scheduler", "dask", status)
        except ApiError as error:
            if error.status != GONE:
                raise
        else:
            return


def computed(person: Person) -> list[str]:
    """Compute with a plain Client(); return the scheduler's address and the result."""
    code = {key: text for key, text in person.environment.items() if not key.startswith("DASK_")}
    words = (*person.starter, sys.executable, "-c", CODE)
    done = subprocess.run(words, env=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def state(person: Person) -> Path:
    return Path(person.environment["XDG_STATE_HOME"]) / "perennial"


def forwarded(person: Person) -> bool:
    return (state(person) / "tunnels.d" / "lab").exists()


def test_a_plain_client_uses_the_balancers_address(lab: Lab, tmp_path: Path) -> None:
    spec = yaml.safe_load(CLUSTER)
    spec["workers"]["cpu"]["count"] = 1
    spec["kubernetes"]["scheduler"] = {"service": {"type": "LoadBalancer"}}
    person, stop = Person(tmp_path, spec), threading.Event()
    cloud = threading.Thread(target=give_address, args=(stop,))
    cloud.start()
    try:
        said = person.run("up", "--yes")
    finally:
        stop.set()
        cloud.join()
    assert f"tls://{ADDRESS}:8786" in said
    assert not forwarded(person)
    assert computed(person) == [f"tls://{ADDRESS}:8786", "6"]
    assert "unchanged in" in person.run("up", "--yes")
    kept = json.loads((state(person) / "lab" / "connection.json").read_text())
    assert kept["scheduler_address"] == f"tls://{ADDRESS}:8786"
    # The dashboard has no public port.
    assert "http://127.0.0.1:" in person.run("open", "dashboard", "--print")
    assert forwarded(person)
    assert "unchanged in" in person.run("up", "--yes")
    assert computed(person) == [f"tls://{ADDRESS}:8786", "6"]
    person.run("down", "--force")


def admit(lab: Lab, stop: threading.Event) -> None:
    """Be the Ingress's controller: write its own address, for which pulumi-kubernetes waits."""
    where = ("-n", "dask", "get", "ingress", "lab-scheduler", "--ignore-not-found")
    while not lab.kubectl(*where):
        if stop.wait(0.5):
            return
    status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}})
    named = ("-n", "dask", "patch", "ingress", "lab-scheduler", "--type=merge", "-p", status)
    lab.kubectl(*named, "--subresource=status")


@contextmanager
def passing_through(lab: Lab, folder: Path) -> Iterator[None]:
    """Pass TLS through to the pods of the Ingress's Service, as its controller does."""

    def read(kind: str, name: str) -> Any:
        return json.loads(lab.kubectl("-n", "dask", "get", kind, name, "-o", "json"))

    (rule,) = read("ingress", "lab-scheduler")["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    (subset,) = read("endpoints", backend["name"])["subsets"]
    (port,) = [each["port"] for each in subset["ports"] if each["name"] == backend["port"]["name"]]
    pod = f"{subset['addresses'][0]['ip']}:{port}"
    config = folder / "haproxy.cfg"
    config.write_text(PASSED.format(host=rule["host"], pod=pod, address=ADDRESS))
    words = ("nsenter", "--net=/run/netns/lab-n1", "haproxy", "-f", str(config))
    with subprocess.Popen(words) as process:
        yield
        process.terminate()


def test_a_plain_client_uses_an_ingress_that_passes_tls_through(lab: Lab, tmp_path: Path) -> None:
    install("haproxy")
    spec = yaml.safe_load(CLUSTER)
    spec["workers"]["cpu"]["count"] = 1
    ingress = {"host": HOST, "annotations": {"example.org/ssl-passthrough": "true"}}
    spec["kubernetes"]["scheduler"] = {"ingress": ingress}
    person, stop = Person(tmp_path, spec), threading.Event()
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
    mounts = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    person.starter = ("unshare", "--mount", "sh", "-c", mounts, "sh")
    controller = threading.Thread(target=admit, args=(lab, stop))
    controller.start()
    try:
        said = person.run("up", "--yes")
    finally:
        stop.set()
        controller.join()
    assert f"tls://{HOST}:443" in said
    assert not forwarded(person)
    with passing_through(lab, tmp_path):
        assert computed(person) == [f"tls://{HOST}:443", "6"]
        assert "unchanged in" in person.run("up", "--yes")
    person.run("down", "--force")
