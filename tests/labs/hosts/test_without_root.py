"""A cluster of a user who has no sudo: a unit or the crontab of that user starts it at boot.

The tests run in their order on one cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.labs.hosts.clusters import Cluster, changed, cluster_file, traces, wait_until
from tests.labs.hosts.host import Host
from tests.labs.hosts.network import Network
from tests.labs.hosts.wheelhouse import wheelhouse

pytestmark = pytest.mark.lab

#: The first user may have units that start at boot; the second has no systemd, but cron.
BOOT = {"machine-a": "unit", "machine-b": "crontab", "machine-c": "crontab"}
USER = "nosudo"
HOME = f"/home/{USER}"
FILES = f"{HOME}/.local/state/dask-perennial"


def described(**cpu: Any) -> str:
    group = {"memory": "384 MiB", "drain": "30 s", **cpu}
    return cluster_file(
        environment={"requirements": ["dask", "distributed"], "wheelhouse": str(wheelhouse())},
        jupyter=None,
        workers={"cpu": {**group, "count": 1, "scale": {"min": 1, "max": 4, "idle": "5 s"}}},
        scaler={"interval": "1 s"},
        hosts={
            "user": USER,
            "init": "supervisord",
            "machines": [
                {"address": "machine-a", "roles": ["scheduler"]},
                {"address": "machine-b", "roles": ["cpu"]},
                {"address": "machine-c", "roles": ["cpu"]},
            ],
        },
    )


@pytest.fixture(scope="module")
def lab(network: Network) -> Iterator[Cluster]:
    machines = [network.add(name, systemd=name != "machine-b") for name in BOOT]
    network.boot(*machines)
    network["machine-a"].run("loginctl", "enable-linger", USER)
    network["machine-b"].write("/etc/rc.local", "#!/bin/sh\n/usr/sbin/cron\n")
    network["machine-b"].run("chmod", "755", "/etc/rc.local")
    network["machine-b"].run("/usr/sbin/cron")
    made = Cluster(network)
    made.before = {machine.name: own_traces(machine) for machine in machines}
    made.write(described())
    yield made
    made.perennial("down", "-c", made.name, "--force", check=False)


def own_traces(machine: Host) -> set[str]:
    """What is there, but for what cron and a login leave by themselves."""
    left = ("/run/crond", "/var/spool/cron/crontabs ", "/tmp/.X", "/run/user")
    return {line for line in traces(machine) if not line.startswith(left)}


def test_up_from_nothing_to_a_result(lab: Cluster) -> None:
    refused = lab.network["machine-a"].run("sudo", "-n", "true", user=USER, check=False)
    assert refused.returncode != 0
    lab.up()
    wait_until(lambda: lab.workers() == 1)
    assert lab.client("print(client.submit(sum, [1, 2]).result())") == "3\n"
    assert lab.plan() == []
    assert lab.refresh() == []


def test_all_is_the_users_own_and_nobody_elses_to_read(lab: Cluster) -> None:
    for name in BOOT:
        machine = lab.network[name]
        owners = machine.run("find", HOME, "-printf", "%u\n").stdout.split()
        assert set(owners) == {USER}
        # Environments may be read by anybody who gets there, and nobody gets there.
        opened = machine.run("find", FILES, "-maxdepth", "2", "-type", "d", "-perm", "/077")
        assert opened.stdout == ""
        keys = machine.run("find", FILES, "-name", "*.pem", "-printf", "%m %p\n").stdout
        assert {line.split()[0] for line in keys.splitlines()} == {"600"}
        others = machine.run("find", FILES, "-type", "s", "-perm", "/077").stdout
        assert others == ""
        assert machine.run("find", "/etc", "/var/lib", "-name", "*dask*").stdout == ""
        users = machine.run("ps", "-eo", "user:20,args").stdout.splitlines()
        ours = [line.split()[0] for line in users if "perennial" in line or "distributed" in line]
        assert set(ours) == {USER}


def test_it_starts_at_boot_by_what_the_user_may_have(lab: Cluster) -> None:
    for name, boot in BOOT.items():
        machine = lab.network[name]
        manifest = json.loads(machine.run("cat", f"{FILES}/{name}/lab/manifest.json").stdout)
        table = machine.run("crontab", "-l", user=USER, check=False).stdout
        assert bool(manifest["units"]) == (boot == "unit")
        assert table.count("# dask-perennial: lab") == (boot == "crontab")


def test_every_machine_reboots_and_all_comes_back_by_itself(lab: Cluster) -> None:
    before = lab.pids()
    with ThreadPoolExecutor() as pool:
        list(pool.map(Host.reboot, [lab.network[name] for name in BOOT]))
    wait_until(lambda: lab.workers() == 1, 180)
    assert lab.client("print(client.submit(sum, [1, 2]).result())") == "3\n"
    after = lab.services()
    assert set(after) == set(before)
    assert {row["state"] for row in after.values()} == {"RUNNING"}
    assert lab.plan() == []


def test_members_come_with_work_and_leave_without(lab: Cluster) -> None:
    said = lab.client(
        "def work(n):\n"
        "    time.sleep(2)\n"
        "    return n\n"
        "found = client.map(work, range(60))\n"
        "assert client.gather(found) == list(range(60))\n"
        "print(len(client.sync(client.scheduler.identity, n_workers=-1)['workers']))\n",
        timeout=180,
    )
    assert int(said) > 1
    wait_until(lambda: lab.workers() == 1, 120)
    assert lab.plan() == []


def test_it_is_operated_as_with_root(lab: Cluster) -> None:
    logs = lab.perennial("logs", "scheduler", "-n", "5").stdout.splitlines()
    assert 0 < len(logs) <= 5
    before = lab.pids()
    member = next(name for name in before if name.startswith("cpu-"))
    lab.perennial("restart", member)
    assert member in changed(before, lab.pids())
    findings = json.loads(lab.perennial("doctor", "--json", check=False).stdout)
    assert [each for each in findings if each["level"] == "error"] == []


def test_a_change_is_rolled_out_and_drains(lab: Cluster) -> None:
    before = lab.pids()
    lab.write(described(env={"OURS": "1"}))
    lab.up()
    now = lab.pids()
    assert {name for name in changed(before, now) if not name.startswith("cpu-")} == set()
    wait_until(lambda: lab.workers() == 1, 120)
    assert lab.client("import os\nprint(client.submit(os.getenv, 'OURS').result())") == "1\n"
    assert lab.plan() == []


def test_root_who_logs_in_is_refused(lab: Cluster) -> None:
    text = described(env={"OURS": "1"})
    lab.write(text.replace(f'"{USER}"', '"root"'))
    done = lab.perennial("up", "--yes", check=False)
    assert done.returncode == 1
    assert "the login user is root, as whom all tasks would run under supervisord" in done.stderr
    lab.write(text)
    assert lab.up()


def test_down_leaves_nothing(lab: Cluster) -> None:
    assert lab.perennial("down", "--force", "--purge").stdout.startswith("lab is down\n")
    for name in BOOT:
        machine = lab.network[name]
        left = own_traces(machine) ^ lab.before[name]
        assert left == set(), name
        assert machine.run("crontab", "-l", user=USER, check=False).returncode == 1
