"""The addresses of a machine, as they are: in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from perennial.hosts.agent.facts import service_address

NO_NETWORK = 77
SCRIPT = f"""
ip link set lo up
ip link add d0 type bridge || exit {NO_NETWORK}
ip address add 10.9.0.1/24 dev d0
ip address add 10.9.0.2/24 dev d0
ip address add 10.9.0.3/32 dev d0 label d0:1
ip address add fd09::1/64 dev d0 nodad
ip link set d0 up
exec "$0" -c 'import json; from perennial.hosts.agent import facts
print(json.dumps(facts.addresses()))'
"""
OWN = {"lo": ["127.0.0.1"], "d0": ["10.9.0.1", "10.9.0.2", "fd09::1"], "d1": ["10.8.0.1"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network namespace")
@pytest.mark.skipif(not shutil.which("ip") or not shutil.which("unshare"), reason="no iproute2")
def test_every_address_of_an_interface_is_known() -> None:
    words = ["unshare", "--net", "sh", "-ec", SCRIPT, sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if (
        done.returncode == NO_NETWORK
    ):  # not every kernel has such an interface, nor lets any root make one
        pytest.skip(f"no namespace with a bridge: {done.stderr.strip()}")
    assert json.loads(done.stdout) == {
        "lo": ["127.0.0.1", "::1"],
        "d0": ["10.9.0.1", "10.9.0.3", "10.9.0.2", "fd09::1"],
    }


@pytest.mark.parametrize(
    ("interface", "names", "address"),
    [
        ("d0", ["10.8.0.1"], "10.9.0.1"),
        ("d0", ["10.9.0.2", "10.8.0.1"], "10.9.0.2"),  # `internal` is its second one
        ("d0", ["10.9.0.2", "10.9.0.1"], "10.9.0.1"),
        ("d0", [], "10.9.0.1"),
        (None, ["10.9.0.2"], "10.9.0.2"),
        (None, ["10.7.0.1"], "10.8.0.1"),
    ],
)
def test_the_address_for_services(interface: str | None, names: list[str], address: str) -> None:
    assert service_address(interface, names, "10.8.0.1", OWN) == address
