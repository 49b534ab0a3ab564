"""`perennial doctor` on three machines: which way is blocked, and does its own rule open it."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.labs.hosts import faults
from tests.labs.hosts.clock import wrong_clock
from tests.labs.hosts.host import SUBNETS
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network
from tests.labs.hosts.seat import Seat

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

CLUSTER = f"""\
name: lab
platform: hosts
environment: {{python: {PYTHON}}}
workers:
  cpu: {{count: 2, memory: 512 MiB, ports: 40000:40009}}
hosts:
  machines:
    - {{address: machine-a, roles: [scheduler, jupyter]}}
    - {{address: machine-b, roles: [cpu]}}
    - {{address: machine-c, roles: [cpu]}}
"""
OPERATOR = f"{SUBNETS['inside']}.2"
CHECKS = {
    *("machines", "services", "ports", "clock", "disk", "versions"),
    *("certificates", "secrets", "network", "Client()", "client", "packages"),
}


@pytest.fixture(scope="module")
def lab(network: Network) -> Network:
    """A cluster on three machines."""
    network.machines("machine-a", "machine-b", "machine-c")
    (network.operator.home / "cluster.yaml").write_text(CLUSTER)
    network.operator.run("perennial", "up", "--yes", timeout=120)
    return network


def doctor(seat: Seat) -> tuple[int, list[dict[str, str]]]:
    """Exit code and findings."""
    done = seat.run("perennial", "doctor", "--json", check=False, timeout=60)
    assert done.stdout.startswith("["), done.stderr
    return done.returncode, json.loads(done.stdout)


def errors(found: list[dict[str, str]]) -> list[str]:
    return [f"{each['check']}: {each['text']}" for each in found if each["level"] == "error"]


def test_all_is_well(lab: Network) -> None:
    code, found = doctor(lab.operator)
    assert errors(found) == []
    assert code == 0
    assert {each["check"] for each in found} == CHECKS
    said = {each["check"]: each["text"] for each in found}
    assert said["machines"] == "3 reached"
    assert said["services"] == "4 run as deployed"
    assert re.fullmatch(
        r"python [\d.]+, dask [\d.]+, distributed [\d.]+, dask-perennial \S+ on 3 machines, in"
        r" Jupyter, and here",
        said["versions"],
    )
    assert "ways tried, all open" in said["network"]


@pytest.mark.parametrize(
    ("way", "at", "ports", "source"),
    [
        ("client → scheduler", "machine-a", "8786", "this machine"),
        ("client → jupyter", "machine-a", "8888", "this machine"),
        ("scheduler → worker", "machine-b", "40000-40009", "machine-a"),
        ("worker → worker", "machine-c", "40000-40009", "machine-b"),
        ("worker → scheduler", "machine-a", "8786", "machine-b"),
    ],
)
def test_a_blocked_way_is_named_and_its_rule_opens_it(
    lab: Network, way: str, at: str, ports: str, source: str
) -> None:
    origin = OPERATOR if source == "this machine" else lab[source].address
    with faults.firewall(lab[at], ports, source=origin):
        code, found = doctor(lab.operator)
        assert code == 1
        (line,) = [each for each in errors(found) if each.startswith("network")]
        said = re.search(
            rf"{way}: {source} cannot reach {at} at [^:]*:(\d+)[\d, ]*/tcp \(no answer\): "
            rf"allow it in {at}'s firewall: `(nft [^`]*)`, there, as root",
            line,
        )
        assert said is not None, line
        port, rule = said.groups()
        assert rule.endswith(f"ip saddr {origin} tcp dport {ports} accept")
        # As it is printed, typed on the machine that it names.
        lab[at].run("sh", "-c", rule)
        if source == "this machine":
            assert lab.operator.reaches(lab[at].address, int(port))
        else:
            place = (lab[at].address, int(port))
            lab[source].python(f"import socket; socket.create_connection({place}, 5).close()")


def test_all_is_well_again(lab: Network) -> None:
    deadline = time.monotonic() + 60
    while found := errors(doctor(lab.operator)[1]):
        # A worker that was cut off comes back by itself.
        assert time.monotonic() < deadline, found


def test_a_clock_that_is_wrong(lab: Network) -> None:
    with wrong_clock(lab["machine-c"], 3600):
        code, found = doctor(lab.operator)
    assert code == 1
    (line,) = [each for each in errors(found) if each.startswith("clock")]
    assert re.search(r"machine-c is 3[56]\d\d s ahead of this machine: .*set-ntp", line)


def test_a_machine_that_is_away_hides_nothing_of_the_others(lab: Network) -> None:
    lab["machine-b"].run("systemctl", "stop", "dask-lab-cpu@0.service")
    with faults.no_sshd(lab["machine-c"]):
        code, found = doctor(lab.operator)
    assert code == 1
    said = errors(found)
    assert any(line.startswith("machines: machine-c") for line in said), said
    assert any("machine-b: dask-lab-cpu@0 is stopped" in line for line in said), said
    lab["machine-b"].run("systemctl", "start", "dask-lab-cpu@0.service")
