"""A scheduler behind a load balancer, whose address a cloud's controller would write."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from perennial.platforms.kubernetes.client import GONE, Api, ApiError
from tests.labs.kubernetes.build import refresh
from tests.labs.kubernetes.lab import Lab, cache, running
from tests.labs.kubernetes.person import Person
from tests.labs.kubernetes.test_story import CLUSTER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

#: Of the node: its kube-proxy takes what comes for a load balancer.
ADDRESS = "10.99.0.11"
CODE = """
from distributed import Client
with Client(timeout=60) as client:
    print(client.scheduler.address, client.submit(sum, [1, 2, 3]).result())
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running() as lab:
        refresh(cache())  # within the lock: the image is there once
        lab.join("n1")
        lab.kubectl("create", "namespace", "dask")
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
    assert not (tmp_path / "state" / "perennial" / "tunnels.d" / "lab").exists()
    code = {key: text for key, text in person.environment.items() if not key.startswith("DASK_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=code, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [f"tls://{ADDRESS}:8786", "6"], done.stderr
    assert "unchanged in" in person.run("up", "--yes")
    kept = json.loads((tmp_path / "state" / "perennial" / "lab" / "connection.json").read_text())
    assert kept["scheduler_address"] == f"tls://{ADDRESS}:8786"
    person.run("down", "--force")
