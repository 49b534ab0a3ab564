"""Machines whose services run under supervisord: changes in turns, drift, and faults.

The tests run in their order on one cluster; each leaves it whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.labs.hosts.clusters import Cluster, changed, cluster_file, home_of, traces, wait_until
from tests.labs.hosts.network import Network

pytestmark = pytest.mark.lab

PLACES = ("machine-b", "machine-c")
GROUPS = ("cpu", "gpu")
#: Prints the fewest workers of each group that the scheduler has known, once it is told to.
WATCH = """
import threading
fewest, over = {"cpu": 99, "gpu": 99}, threading.Event()
def look():
    while not over.is_set():
        info = client.sync(client.scheduler.identity, n_workers=-1)
        names = [str(worker["name"]) for worker in info["workers"].values()]
        for group in fewest:
            fewest[group] = min(fewest[group], sum(n.startswith(group) for n in names))
        time.sleep(0.05)
thread = threading.Thread(target=look)
thread.start()
print("ready")
input()
over.set()
thread.join()
import json
print(json.dumps(fewest))
"""


def described(memory: str) -> str:
    group: dict[str, Any] = {"memory": memory, "drain": "30 s"}
    machines = [
        {"address": "machine-a", "roles": ["scheduler"]},
        *({"address": name, "roles": list(GROUPS)} for name in PLACES),
    ]
    return cluster_file(
        scheduler={"watchdog": "15 s"},
        jupyter=None,
        workers=dict.fromkeys(GROUPS, group),
        hosts={"machines": machines, "init": "supervisord"},
    )


@pytest.fixture(scope="module")
def lab(network: Network) -> Iterator[Cluster]:
    for machine in network.machines("machine-a", *PLACES):
        # So that a unit of the user's keeps supervisord running; a crontab starts it at boot alone.
        machine.run("loginctl", "enable-linger", "ops")
    before = {machine: traces(machine) for machine in network.all().values()}
    made = Cluster(network)
    made.write(described("512 MiB"))
    made.up()
    assert made.workers() == 4
    yield made
    made.perennial("down", "-c", made.name, "--force")
    assert {machine: traces(machine) for machine in before} == before


def back(lab: Cluster, before: dict[str, int], *ended: str) -> None:
    """Wait until who ended is there again, and all workers; nothing has drifted."""
    wait_until(lambda: all(lab.pids()[name] not in (0, before[name]) for name in ended))
    wait_until(lambda: lab.workers() == 4)
    assert lab.plan() == []


def test_a_worker_is_killed(lab: Cluster) -> None:
    before, ended = lab.pids(), "cpu-machine-b-0"
    lab.network["machine-b"].run("kill", "-9", str(before[ended]))
    back(lab, before, ended)
    assert changed(before, lab.pids()) == {ended}


@pytest.mark.parametrize("signal", ["-KILL", "-STOP"])
def test_the_scheduler_is_killed_or_hangs(lab: Cluster, signal: str) -> None:
    before = lab.pids()
    lab.network["machine-a"].run("kill", signal, str(before["scheduler"]))
    back(lab, before, "scheduler")
    assert lab.client("print(client.submit(sum, range(10)).result())") == "45\n"


def test_supervisord_is_killed_and_adopts_what_runs(lab: Cluster) -> None:
    before, machine = lab.pids(), lab.network["machine-c"]
    pid_file = f"{home_of('machine-c')}/lab/supervisord/supervisord.pid"
    pid = machine.run("cat", pid_file).stdout.strip()
    machine.run("kill", "-9", pid)
    wait_until(lambda: machine.run("cat", pid_file).stdout.strip() != pid)
    wait_until(lambda: {row["state"] for row in lab.services().values()} == {"RUNNING"})
    assert changed(before, lab.pids()) == set()
    assert lab.plan() == []


def test_never_are_two_of_a_group_away(lab: Cluster) -> None:
    before = lab.pids()
    watching = lab.start_client(WATCH)
    assert watching.stdout is not None
    assert watching.stdout.readline() == "ready\n"
    lab.write(described("500 MiB"))
    assert lab.up() == "2 changed, 5 unchanged"
    said, _ = watching.communicate("\n", timeout=60)
    assert json.loads(said) == dict.fromkeys(GROUPS, 1)
    members = {f"{group}-{machine}-0" for group in GROUPS for machine in PLACES}
    assert changed(before, lab.pids()) == members
    assert lab.workers() == 4
    assert lab.plan() == []


def test_edited_files_of_supervisord_are_named_and_written_again(lab: Cluster) -> None:
    before = lab.pids()
    main = f"{home_of('machine-b')}/lab/supervisord/supervisord.conf"
    member = f"{home_of('machine-c')}/lab/supervisord/conf.d/cpu-machine-c-0.conf"
    edits = {"machine-b": main, "machine-c": member}
    texts = {
        machine: lab.network[machine].run("cat", path).stdout for machine, path in edits.items()
    }
    for machine, path in edits.items():
        lab.network[machine].run("sh", "-ec", f"echo '; x' >> {path}")
    expected = [f"~ {name} update {name} {path} was edited" for name, path in edits.items()]
    assert lab.refresh() == expected
    assert lab.plan() == expected
    assert lab.up() == "2 changed, 5 unchanged"
    now = {machine: lab.network[machine].run("cat", path).stdout for machine, path in edits.items()}
    assert now == texts
    assert changed(before, lab.pids()) == set()
    assert lab.refresh() == []


def test_what_was_started_with_an_edited_file_restarts_alone(lab: Cluster) -> None:
    before, machine = lab.pids(), lab.network["machine-b"]
    config = f"{home_of('machine-b')}/lab/config/cpu.yaml"
    machine.run("sh", "-ec", f"echo '# x' >> {config}; kill {before['cpu-machine-b-0']}")
    wait_until(lambda: lab.pids()["cpu-machine-b-0"] not in (0, before["cpu-machine-b-0"]))
    wait_until(lambda: lab.workers() == 4)
    expected = [
        f"~ machine-b update machine-b {config} was edited",
        f"~ machine-b update machine-b cpu-machine-b-0 was started with {config} as it was edited,"
        " and restarts",
    ]
    assert lab.refresh() == expected
    edited = lab.pids()
    assert lab.up() == "1 changed, 6 unchanged"
    assert changed(edited, lab.pids()) == {"cpu-machine-b-0"}
    assert lab.plan() == []
