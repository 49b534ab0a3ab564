"""What `perennial plan` says before a change, and that `up` does that and nothing else.

The tests run in their order on one cluster; each leaves it whole.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.labs.hosts.clusters import Cluster, changed, cluster_file, wait_until
from tests.labs.hosts.machine import ENVIRONMENT
from tests.labs.hosts.network import Network

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

DRAINED = "changed; drained first"
LOST = "changed; ALL RUNNING WORK AND RESULTS ARE LOST"

#: A client with a result on each worker of cpu that exists nowhere else, and tasks that run all
#: the time and are counted where they run. Told to end, it says what became of all that.
BUSY = """
import json, sys, threading
from distributed import get_worker
def names(status=None):
    # Not `scheduler_info`: the client replaces its answer by one without workers now and then.
    found = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return {address: worker["name"] for address, worker in found.items()
            if status is None or worker["status"] == status}
def task(number):
    get_worker().log_event("runs", number)
    time.sleep(0.5)
    return number
client.wait_for_workers(6, timeout=60)
cpu = [address for address, name in names().items() if name.startswith("cpu-")]
kept = [client.scatter(bytes([n]) * 1000, workers=[address]) for n, address in enumerate(cpu)]
ended, fewest, sizes = threading.Event(), len(cpu), set()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
results, number = [], 0
print("ready", flush=True)
while not ended.is_set():
    batch = client.map(task, range(number, number + 6), pure=False)
    number += 6
    while not all(future.done() for future in batch) and len(names()):
        fewest = min(fewest, sum(name.startswith("cpu-") for name in names("running").values()))
        time.sleep(0.05)
    results += client.gather(batch)
runs = [event for _, event in client.get_events("runs")]
print(json.dumps({
    "kept": [data[0] for data in client.gather(kept)] == list(range(len(cpu))),
    "right": results == list(range(number)), "again": len(runs) - len(set(runs)),
    "done": len(results), "fewest": fewest}))
"""


def cluster(cpu: int = 2, memory: str = "512 MiB", more: Any = (), **changes: Any) -> str:
    """The cluster of these tests, with what an edit changes."""
    roles: list[Any] = [{"cpu": cpu}, {"io": 1}]
    machines = [
        {"address": "machine-a", "roles": ["scheduler", "jupyter"]},
        {"address": "machine-b", "roles": roles},
        {"address": "machine-c", "roles": [{"cpu": 2}, {"io": 1}]},
        *more,
    ]
    drain = changes.pop("drain", "30 s")
    workers = {
        "cpu": {"memory": memory, "drain": drain},
        "io": {"memory": "256 MiB", "threads": changes.pop("threads", 1)},
    }
    hosts = {"machines": machines, "max_unavailable": changes.pop("max_unavailable", 1)}
    return cluster_file(workers=workers, hosts=hosts, **changes)


def everywhere(group: str, numbers: range = range(1), reason: str = DRAINED) -> list[str]:
    """The lines of a change that restarts all members of a group."""
    return [
        f"! {machine} restart {group}-{machine}-{number} {reason}"
        for machine in ("machine-b", "machine-c")
        for number in numbers
    ]


ALL_CPU = everywhere("cpu", range(2))
SCHEDULER = f"! machine-a restart scheduler {LOST}"
JUPYTER = "! machine-a restart jupyter changed; its kernels end"
EVERYTHING = [SCHEDULER, JUPYTER] + [
    f"! {machine} restart {member} {DRAINED}"
    for machine in ("machine-b", "machine-c")
    for member in (f"cpu-{machine}-0", f"cpu-{machine}-1", f"io-{machine}-0")
]
#: Each kind of edit, and the whole plan of it.
EDITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "memory of a group": ({"memory": "768 MiB"}, ALL_CPU),
    "threads of the other group": ({"threads": 2}, everywhere("io")),
    "the scheduler": ({"scheduler": {"watchdog": "90 s"}}, [SCHEDULER]),
    "Jupyter": ({"jupyter": {"idle": "1 h"}}, [JUPYTER]),
    "more members": ({"cpu": 3}, ["+ machine-b create cpu-machine-b-2 new"]),
    "fewer members": (
        {"cpu": 1},
        ["- machine-b delete cpu-machine-b-1 no longer in the cluster file; drained first"],
    ),
    "another machine": (
        {"more": [{"address": "machine-d", "roles": [{"cpu": 1}]}]},
        [
            "+ machine-d create machine-d new machine: 1 of cpu",
            f"+ machine-d create environment uses {ENVIRONMENT}/bin/python",
        ],
    ),
    "another Python": (
        {"environment": {"python": "/opt/other/bin/python"}},
        [
            line
            for machine in ("machine-a", "machine-b", "machine-c")
            for line in (
                f"~ {machine} update environment uses /opt/other/bin/python instead",
                *(each for each in EVERYTHING if each.split()[1] == machine),
            )
        ],
    ),
    "Dask's configuration": ({"dask": {"distributed.worker.profile.interval": "20ms"}}, EVERYTHING),
    "members that may be away": (
        {"max_unavailable": 2},
        [
            f"~ {machine} update {machine} max unavailable changed; nothing restarts"
            for machine in ("machine-a", "machine-b", "machine-c")
        ],
    ),
    "Jupyter's port": ({"jupyter": {"port": 8889}}, [JUPYTER]),
    "the scheduler's port": ({"scheduler": {"port": 8790}}, EVERYTHING),
}


@pytest.fixture(scope="module")
def lab(network: Network) -> Cluster:
    """A cluster of two groups on three machines, deployed; a fourth machine stands by."""
    network.machines("machine-a", "machine-b", "machine-c", "machine-d")
    made = Cluster(network)
    made.write(cluster())
    made.up()
    return made


def test_a_plan_names_exactly_what_an_edit_does(lab: Cluster) -> None:
    before = lab.pids()
    assert len(before) == 8
    found = {}
    for name, (edit, _) in EDITS.items():
        lab.write(cluster(**edit))
        found[name] = lab.plan()
    assert found == {name: lines for name, (_, lines) in EDITS.items()}
    # One file without a machine.
    text = json.loads(cluster())
    text["hosts"]["machines"].pop()
    lab.write(json.dumps(text))
    removed = "no longer in the cluster file; its data moves to other machines; drained first"
    assert lab.plan() == [f"- machine-c delete machine-c {removed}"]
    # Nothing of all that was done.
    lab.write(cluster())
    assert lab.plan() == []
    assert lab.pids() == before


def test_changed_members_take_turns_and_lose_nothing(lab: Cluster) -> None:
    before = lab.pids()
    client = lab.start_client(BUSY)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    lab.write(cluster(memory="768 MiB"))
    assert lab.up() == "2 changed, 5 unchanged"
    said, errors = client.communicate("end\n", timeout=60)
    assert said, errors
    result = json.loads(said)
    assert changed(before, lab.pids()) == {
        f"cpu-{machine}-{number}" for machine in ("machine-b", "machine-c") for number in range(2)
    }
    assert result.pop("done") > 20
    # Never more than max_unavailable, 1, of the four away.
    assert result == {"kept": True, "right": True, "again": 0, "fewest": 3}
    assert lab.plan() == []


def test_what_changes_no_process_restarts_none(lab: Cluster) -> None:
    before = lab.pids()
    lab.write(cluster(memory="768 MiB", max_unavailable=2))
    assert lab.up() == "3 changed, 4 unchanged"
    assert lab.pids() == before


def test_members_and_machines_come_and_go_alone(lab: Cluster) -> None:
    before = lab.pids()
    more = [{"address": "machine-d", "roles": [{"cpu": 1}]}]
    lab.write(cluster(cpu=3, memory="768 MiB", max_unavailable=2, more=more))
    assert lab.up() == "2 made, 1 changed, 6 unchanged"
    assert changed(before, lab.pids()) == {"cpu-machine-b-2", "cpu-machine-d-0"}
    wait_until(lambda: lab.workers() == 8)
    client = lab.start_client(
        "found = client.sync(client.scheduler.identity, n_workers=-1)['workers'].items()\n"
        "there = [a for a, w in found if w['name'] in ('cpu-machine-d-0', 'cpu-machine-b-2')]\n"
        "kept = [client.scatter(b'x' * 1000, workers=[address]) for address in there]\n"
        "print('ready'); input(); print([len(data) for data in client.gather(kept)])\n"
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    lab.write(cluster(memory="768 MiB", max_unavailable=2))
    assert lab.up() == "1 changed, 2 removed, 6 unchanged"
    # What only they had was moved before they left.
    assert client.communicate("end\n", timeout=60)[0] == "[1000, 1000]\n"
    assert lab.pids() == before
    found = "ls -d /var/lib/dask-perennial /etc/*/*dask*"
    left = lab.network["machine-d"].run("sh", "-c", found, check=False)
    assert left.stdout == ""


def test_the_scheduler_is_restarted_alone_and_its_workers_come_back(lab: Cluster) -> None:
    before = lab.pids()
    lab.write(cluster(memory="768 MiB", max_unavailable=2, scheduler={"watchdog": "90 s"}))
    assert lab.plan() == [SCHEDULER]
    assert lab.up() == "1 changed, 6 unchanged"
    wait_until(lambda: lab.workers() == 6)
    after = lab.pids()
    assert "scheduler" in changed(before, after)
    assert after["jupyter"] == before["jupyter"]
    assert lab.plan() == []
