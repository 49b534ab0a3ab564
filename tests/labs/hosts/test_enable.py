"""`perennial enable` under a real systemd: handed over, killed, rebooted, taken down.

The tests run in their order on one machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.labs.hosts.machine import Machine

pytestmark = pytest.mark.lab

CLUSTER = """\
name: lab
platform: local
workers:
  cpu: {count: 2, memory: 1 GiB}
"""
UNIT = "dask-perennial-lab.service"
COMPUTE = "from distributed import Client; print(Client(timeout=60).submit(sum, [1, 2]).result())"


def pids(machine: Machine) -> dict[str, int]:
    """Process ids of the services, by name."""
    report = json.loads(machine.run("perennial", "status", "--json").stdout)
    return {row["service"]: row["pid"] for row in report["services"] if row["service"] != "health"}


def supervisord(machine: Machine) -> int:
    """Process id of the cluster's supervisord, 0 when none answers."""
    return int(json.loads(machine.run("perennial", "status", "--json").stdout)["supervisord"])


def main_pid(machine: Machine) -> int:
    return int(machine.run("systemctl", "show", "--value", "-p", "MainPID", UNIT).stdout)


def wait_until(condition: Callable[[], object], timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def workers(machine: Machine) -> int:
    report = json.loads(machine.run("perennial", "status", "--json").stdout)
    return int(report["scheduler"]["workers"]) if report["scheduler"] else 0


def test_enable_hands_over_without_touching_a_service(machine: Machine) -> None:
    machine.write("/root/cluster.yaml", CLUSTER)
    machine.run("perennial", "up", "--yes", "--file", "/root/cluster.yaml", timeout=180)
    before = pids(machine)
    assert set(before) == {"scheduler", "cpu-0", "cpu-1", "jupyter"}
    said = machine.run("perennial", "enable").stdout
    assert f"{UNIT} starts it at boot" in said
    assert pids(machine) == before
    assert supervisord(machine) == main_pid(machine)
    assert machine.python(COMPUTE).strip() == "3"
    # Once more changes nothing.
    machine.run("perennial", "enable")
    assert supervisord(machine) == main_pid(machine)


def test_a_killed_supervisord_comes_back_and_adopts(machine: Machine) -> None:
    before, killed = pids(machine), supervisord(machine)
    machine.run("kill", "-9", str(killed))
    wait_until(lambda: supervisord(machine) not in (0, killed))
    assert pids(machine) == before
    assert "nothing to change" in machine.run("perennial", "up", "-f", "/root/cluster.yaml").stdout


def test_the_cluster_comes_back_after_a_reboot(machine: Machine) -> None:
    machine.reboot()
    wait_until(lambda: workers(machine) == 2)
    assert supervisord(machine) == main_pid(machine)
    assert machine.python(COMPUTE).strip() == "3"


def test_the_cluster_comes_back_after_the_power_was_cut(machine: Machine) -> None:
    machine.cut_power()
    machine.boot()
    wait_until(lambda: workers(machine) == 2)


def test_down_ends_it_and_up_uses_the_unit_again(machine: Machine) -> None:
    machine.run("perennial", "down", "--force", timeout=120)
    assert main_pid(machine) == 0
    assert machine.run("pgrep", "-f", "[d]ask (scheduler|worker)", check=False).stdout == ""
    # Nothing to bring back: systemd does not even try at a boot.
    machine.run("systemctl", "start", UNIT)
    assert main_pid(machine) == 0
    machine.run("perennial", "up", "--yes", "--file", "/root/cluster.yaml", timeout=180)
    assert supervisord(machine) == main_pid(machine)


def test_disable_removes_the_unit_also_of_a_cluster_that_is_down(machine: Machine) -> None:
    machine.run("perennial", "down", "--force", timeout=120)
    assert "is gone" in machine.run("perennial", "disable", "-c", "lab").stdout
    assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    refused = machine.run("perennial", "disable", "-c", "lab", check=False)
    assert refused.returncode == 1
    assert "lab is not enabled" in refused.stdout + refused.stderr
