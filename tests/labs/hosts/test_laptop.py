"""A laptop with no route to the cluster: a bundle, a bastion, and a plain Client().

The tests run in their order.
"""

from __future__ import annotations

import json
import sys
import time

import pytest

from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

CLUSTER = f"""\
name: lab
platform: hosts
environment: {{python: {PYTHON}}}
workers:
  cpu: {{count: 2, memory: 512 MiB}}
hosts:
  machines: [machine-a, machine-b, machine-c]
"""
#: Computes whenever it is told to, with one client for all of its life.
PATIENT = """\
import sys
from distributed import Client
client = Client(timeout=60)
for line in sys.stdin:
    print(client.submit(pow, int(line), 2, pure=False).result(timeout=90), flush=True)
"""
#: What a browser would see: with the cluster's authority, at both names of loopback.
BROWSE = """\
import ssl, sys, urllib.error, urllib.request
ca, token = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
for name in ("localhost", "127.0.0.1"):
    for head in ({}, {"Authorization": f"token {token}"}):
        asked = urllib.request.Request(f"https://{name}:8888/api/contents", headers=head)
        try:
            print(urllib.request.urlopen(asked, context=context, timeout=30).status)
        except urllib.error.HTTPError as error:
            print(error.code)
"""


@pytest.fixture(scope="module")
def lab(network: Network) -> Network:
    """A cluster on three machines that the laptop cannot reach, and a bastion that it can."""
    network.machine("bastion", "outside")
    network.machines("machine-a", "machine-b", "machine-c")
    operator, laptop = network.operator, network.laptop
    (operator.home / "cluster.yaml").write_text(CLUSTER)
    operator.run("perennial", "up", "--yes", timeout=180)
    operator.run("perennial", "connect", "--export", "lab.bundle")
    (laptop.home / "lab.bundle").write_bytes((operator.home / "lab.bundle").read_bytes())
    return network


def test_a_bundle_alone_is_of_no_use_and_the_doctor_says_what_is(lab: Network) -> None:
    lab.laptop.run("perennial", "connect", "lab.bundle")
    done = lab.laptop.run("perennial", "doctor", check=False)
    assert done.returncode == 1
    assert "client → scheduler: this machine cannot reach" in done.stdout
    assert "`perennial connect --ssh USER@MACHINE`" in done.stdout


def test_a_plain_client_computes_through_the_bastion(lab: Network) -> None:
    said = lab.laptop.run("perennial", "connect", "lab", "--ssh", "ops@bastion").stdout
    assert "reaches lab at tls://127.0.0.1:8786, tunnel through ops@bastion" in said
    code = "from distributed import Client; print(Client().submit(sum, [1, 2]).result())"
    assert lab.laptop.run(sys.executable, "-c", code).stdout == "3\n"
    done = lab.laptop.run("perennial", "doctor", "--json")
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert found["tunnel"]["text"].endswith(": connected")
    assert {found[check]["level"] for check in ("tunnel", "Client()", "client")} == {"ok"}


def test_jupyter_answers_by_its_certificate_and_for_its_token_alone(lab: Network) -> None:
    ca = lab.laptop.home / ".local/state/perennial/connections.d/lab/ca.pem"
    said = lab.operator.run("perennial", "open", "--print").stderr
    _, _, kept = said.partition("its token is in ")
    token = lab.operator.run("cat", kept.strip()).stdout.strip()
    said = lab.laptop.run(sys.executable, "-c", BROWSE, str(ca), token).stdout
    assert said.split() == ["403", "200"] * 2


def test_the_same_client_goes_on_after_the_bastion_was_away(lab: Network) -> None:
    client = lab.laptop.popen(sys.executable, "-c", PATIENT, stdin=-1)
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        print(3, file=client.stdin, flush=True)
        assert client.stdout.readline() == "9\n"
        with lab["bastion"].unreachable():
            time.sleep(20)
        print(4, file=client.stdin, flush=True)
        assert client.stdout.readline() == "16\n"
        client.stdin.close()
        assert client.wait(30) == 0
    finally:
        lab.laptop.kill(client)


def test_disconnect_leaves_nothing(lab: Network) -> None:
    assert lab.laptop.processes() != []
    said = lab.laptop.run("perennial", "disconnect", "-c", "lab").stdout
    assert "the tunnel to lab is closed" in said
    deadline = time.monotonic() + 10
    while lab.laptop.processes():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list(lab.laptop.home.glob(".local/state/perennial/tunnels.d/*/tunnel.json"))
    assert not (lab.laptop.home / ".config/dask/perennial.yaml").exists()
