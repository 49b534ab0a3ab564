"""The addresses of a machine, as they are: in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import psutil
import pytest

from perennial.platforms.hosts.agent.examining import is_of
from perennial.platforms.hosts.agent.facts import service_address
from tests.homes import wait_until
from tests.ports import free_port

NO_NETWORK = 77
SCRIPT = f"""
ip link set lo up
ip link add d0 type bridge || exit {NO_NETWORK}
ip address add 10.9.0.1/24 dev d0
ip address add 10.9.0.2/24 dev d0
ip address add 10.9.0.3/32 dev d0 label d0:1
ip address add fd09::1/64 dev d0 nodad
ip link set d0 up
exec "$0" -c 'import json; from perennial.platforms.hosts.agent import facts
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


LISTENER = """
import socket, subprocess, sys, time
if sys.argv[2] == "child":
    sys.exit(subprocess.call([sys.executable, "-c", sys.stdin.read(), sys.argv[1], "self"]))
open_here = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


@pytest.mark.parametrize("way", ["self", "child"])
def test_a_port_is_ours_only_while_our_own_process_listens_there(way: str) -> None:
    port = free_port()
    assert not is_of({os.getpid()}, port)
    command = [sys.executable, "-c", LISTENER, str(port), way]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as service,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other,
    ):
        try:
            assert service.stdin is not None
            service.stdin.write(LISTENER)
            service.stdin.close()
            wait_until(lambda: is_of({service.pid}, port))
            assert is_of({service.pid, other.pid}, port)
            # Whoever has taken the port while our service is down.
            assert not is_of({other.pid}, port)
            assert not is_of((), port)
        finally:
            for pid in [*psutil.Process(service.pid).children(), service, other]:
                pid.kill()
