"""How a machine of the same program is reached: its host key, and the secret private key."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path

import pytest

from tests.homes import wait_until
from tests.ports import free_port
from tests.spec.strategies import HOST_KEY
from tests.ssh.sshd import MISSING, keygen
from tests.stacks.conftest import Site
from tests.stacks.projects import BIN, Project

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

PROGRAM = """
import json
import signal
import time
from pathlib import Path
import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider
from perennial.stacks.hosts import EnvironmentArgs, HostsCluster, HostsClusterArgs
from perennial.stacks.hosts import HostsOptionsArgs, MachineArgs, WorkerGroupArgs

told = json.loads(Path(__file__).with_name("told.json").read_text())

class Machine(ResourceProvider):
    def create(self, props):
        return CreateResult("vm", {"address": "ma", "host_key": props["shows"]})

class Vm(Resource):
    address: pulumi.Output[str]
    host_key: pulumi.Output[str]
    def __init__(self, name):
        known = {"shows": told["host_key"], "address": None, "host_key": None}
        super().__init__(Machine(), name, known)

vm = Vm("vm")
machine = MachineArgs(
    name="w0",
    address=vm.address,
    host_key=vm.host_key,
    private_key=told["private_key"],
    connect_timeout=told["connect_timeout"],
)
made = HostsCluster("lab", HostsClusterArgs(
    name="lab",
    environment=EnvironmentArgs(python="/opt/dask/bin/python"),
    workers={"cpu": WorkerGroupArgs(memory="512 MiB")},
    hosts=HostsOptionsArgs(machines=[machine]),
))
pulumi.export("address", made.scheduler_address)
"""


class Deployment:
    """The program, and what it is told."""

    def __init__(self, site: Site) -> None:
        self.site, self.project = site, Project(site)
        # Where Pulumi's own plugin for the machine finds its Python.
        self.project.environment["PATH"] = f"{BIN}:{site.environment['PATH']}"
        self.file = self.project.folder / "program.py"
        self.file.write_text(PROGRAM)
        self.told = {"host_key": f"{HOST_KEY} root@vm\n", "connect_timeout": "5 min"}
        self.told["private_key"] = keygen(site.root / "key").read_text()
        self.project.pulumi("stack", "init", "dev")

    def run(self, action: str, code: int = 0) -> str:
        """Run the program."""
        (self.project.folder / "told.json").write_text(json.dumps(self.told))
        return self.project.inline(action, self.file, code=code)

    def secret(self) -> str:
        """A line of the private key."""
        return self.told["private_key"].splitlines()[2]

    def reached(self) -> dict[str, object]:
        """How the provider has reached the machine."""
        found: dict[str, object] = json.loads((self.site.root / "reached/ma").read_text())
        return found


@pytest.fixture
def deployment(site: Site) -> Deployment:
    return Deployment(site)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_is_shown_and_ends_with_the_command(site: Site, number: signal.Signals) -> None:
    """By the real engine and the real `ssh`, to a port at which nobody is."""
    del site.environment["PYTHONPATH"]
    machine = {"address": "127.0.0.1", "name": "vm", "port": free_port()}
    site.spec["hosts"] = {"machines": [machine], "connect_timeout": "10 min"}
    process = site.start("up", "--yes")
    assert process.stdout is not None
    said = ""
    while "waiting for vm (127.0.0.1): connection refused" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    assert "of 600 s" in said
    begun = time.monotonic()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30, rest
    assert process.returncode != 0
    assert site.machines() == {}
    wait_until(lambda: not site.processes())


@pytest.mark.timeout(600)
def test_a_host_key_that_only_the_machine_tells(deployment: Deployment) -> None:
    said = deployment.run("preview")
    assert "lab-w0-environment" in said
    assert not Path(deployment.site.root, "reached").exists()

    said += deployment.run("up")
    key = hashlib.sha256(deployment.told["private_key"].encode()).hexdigest()
    assert deployment.reached() == {
        "host_key": deployment.told["host_key"],
        "seconds": 300.0,
        "private_key": key,
    }
    assert "tls://ma:8786" in deployment.project.pulumi("stack", "output", "address")

    # How long it is waited for is no change; another private key is one, of which no word is shown.
    deployment.told["connect_timeout"] = "10 min"
    again = deployment.run("up")
    assert "6 unchanged" in again
    assert "updated" not in again
    said += again
    deployment.told["private_key"] = keygen(deployment.site.root / "other").read_text()
    said += deployment.run("up")
    assert deployment.reached()["private_key"] != key
    assert deployment.secret() not in said + deployment.project.kept()
    assert deployment.secret() in deployment.project.pulumi("stack", "export", "--show-secrets")


def test_a_host_key_that_is_none_is_refused_before_anything_is_sent(
    deployment: Deployment,
) -> None:
    deployment.told["host_key"] = "still booting"
    said = deployment.run("up", code=1)
    # What an Output holds is not shown.
    assert "hosts.machines[w0].host_key: found an Output's value; allowed: a public key as" in said
    assert "still booting" not in said
    assert deployment.site.machines() == {}
