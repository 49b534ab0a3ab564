"""A machine changes hands: to another service manager, and out of a cluster that it left dead.

The tests run in their order on one cluster; each leaves it whole.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.labs.hosts.clusters import Cluster, cluster_file
from tests.labs.hosts.network import Network

pytestmark = pytest.mark.lab


def described(*machines: str, **init: str) -> str:
    """The cluster of these tests: a worker on each machine but the first."""
    placed: list[dict[str, Any]] = [{"address": machine} for machine in machines]
    for machine in placed:
        letter = machine["address"][-1]
        machine["roles"] = ["scheduler"] if letter == "a" else [{"cpu": 1}]
        if letter in init:
            machine["init"] = init[letter]
    workers = {"cpu": {"memory": "512 MiB", "drain": "30 s"}}
    return cluster_file(workers=workers, hosts={"machines": placed}, jupyter=None)


@pytest.fixture(scope="module")
def lab(network: Network) -> Cluster:
    """A cluster on three machines with systemd, deployed."""
    network.machines("machine-a", "machine-b", "machine-c")
    made = Cluster(network)
    made.write(described("machine-a", "machine-b", "machine-c"))
    assert made.up() == "7 made"
    return made


def test_a_machine_goes_from_systemd_to_supervisord_and_back(lab: Cluster) -> None:
    held = "print(client.gather(client.scatter({'a': 1}))['a'])"
    for init in ("supervisord", "systemd"):
        before = lab.pids()
        lab.write(described("machine-a", "machine-b", "machine-c", b=init))
        cost = "all services there are drained, stopped and started"
        assert f"~ machine-b update init its services run under {init}; {cost}" in lab.plan()
        assert lab.up() == "2 changed, 5 unchanged"
        now = lab.pids()
        assert {name for name in now if now[name] != before.get(name)} == {"cpu-machine-b-0"}
        assert lab.workers() == 2
        units = lab.network["machine-b"].run(
            *("systemctl", "list-units", "--plain", "--no-legend", "dask-lab*"),
        )
        names = {line.split()[0] for line in units.stdout.splitlines()}
        assert ("dask-lab-cpu@0.service" in names) == (init == "systemd"), names
        assert lab.client(held) == "1\n"
        assert lab.plan() == []


def test_a_machine_that_is_gone_for_good_is_forgotten(lab: Cluster) -> None:
    before = lab.pids()
    lab.network["machine-c"].cut_power()
    lab.write(described("machine-a", "machine-b"))
    done = lab.perennial("up", "--yes", check=False)
    assert done.returncode == 1
    line, *_ = done.stderr.splitlines()[-1:]
    assert "machine-c" in line
    assert "Traceback" not in done.stderr
    wrong = lab.perennial("forget", "machine-x", "--force", check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[-1].startswith("machine-x: no machine of lab; it has ")
    lab.perennial("forget", "machine-c", "--force")
    assert lab.up() == "5 unchanged"
    assert lab.plan() == []
    now = lab.pids()
    assert now == {name: pid for name, pid in before.items() if "machine-c" not in name}
