"""The scaler on hosts: members come and go on two machines by demand, and no key is lost."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.labs.hosts.clusters import Cluster, cluster_file, home_of, traces, wait_until
from tests.labs.hosts.host import Host
from tests.labs.hosts.network import Network

pytestmark = [pytest.mark.lab, pytest.mark.smoke]

#: Machines with members; machine-a has the scheduler and the scaler.
PLACES = ("machine-b", "machine-c")
SCALE: dict[str, Any] = {"min": 0, "max": 4, "idle": "4 s", "start_up": "5 s", "step_down": 1}
#: One machine under systemd, one under supervisord.
MACHINES = (
    {"address": "machine-a", "roles": ["scheduler"]},
    {"address": "machine-b", "roles": ["cpu"]},
    {"address": "machine-c", "roles": ["cpu"], "init": "supervisord"},
)


def described(**scale: Any) -> str:
    return cluster_file(
        jupyter=None,
        scaler={"interval": "1 s"},
        workers={
            "cpu": {
                "count": 0,
                "memory": "512 MiB",
                "drain": "60 s",
                "scale": {**SCALE, **scale},
            }
        },
        hosts={"machines": list(MACHINES)},
    )


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[Cluster]:
    network.machines("machine-a", *PLACES)
    made = Cluster(network)
    made.write(described())
    before = {machine: traces(machine) for machine in network.all().values()}
    made.up()
    yield made
    made.perennial("down", "-c", made.name, "--force")
    assert {machine: traces(machine) for machine in before} == before


def processes(machine: Host, what: str) -> dict[str, int]:
    """Process ids by what a pattern finds in the command line."""
    lines = machine.run("ps", "-eo", "pid,args").stdout.splitlines()
    found = (re.match(rf"\s*(\d+) \S+ {what}", line) for line in lines)
    return {match[2]: int(match[1]) for match in found if match}


def units(cluster: Cluster) -> dict[str, int]:
    """Members that run, with their process ids: ``machine-b-0``."""
    found: dict[str, int] = {}
    for place in PLACES:
        found |= processes(cluster.network[place], r"(?:-P )?-m dask worker .* --name cpu-(\S+)")
    return found


def keepers(machine: Host) -> dict[str, int]:
    """Process ids of what asks and of what starts members; under supervisord that is one."""
    return processes(machine, r".*(?:perennial\.platforms\.hosts\.|/lab/)(relay|keeper\.py) ")


def kill_keepers(cluster: Cluster) -> None:
    for place in PLACES:
        for pid in keepers(cluster.network[place]).values():
            cluster.network[place].run("kill", "-9", str(pid), check=False)


def wanted(cluster: Cluster, place: str) -> list[int]:
    under = home_of(place) if place == "machine-c" else "/var/lib/dask-perennial"
    said = cluster.network[place].run("cat", f"{under}/lab/keeper/wanted.json")
    numbers: list[int] = json.loads(said.stdout)["cpu"]
    return numbers


def test_members_come_with_work_and_leave_without(cluster: Cluster) -> None:
    assert units(cluster) == {}
    said = cluster.client(
        "def work(n):\n"
        "    time.sleep(2)\n"
        "    return n, bytes(1000)\n"
        "found = client.map(work, range(60))\n"
        "assert [n for n, _ in client.gather(found)] == list(range(60))\n"
        "workers = client.sync(client.scheduler.identity, n_workers=-1)['workers'].values()\n"
        "print(sorted({worker['name'].rpartition('-')[0] for worker in workers}))\n",
        timeout=180,
    )
    assert said.strip() == "['cpu-machine-b', 'cpu-machine-c']"
    wait_until(lambda: not units(cluster), 120)
    assert all(wanted(cluster, place) == [] for place in PLACES)


HOLDER = """
import json, sys
def work(n):
    time.sleep(1)
    return bytes(1000 + n)
computed = client.map(work, range(48))
wait(computed)
# On each of the workers some that nobody can compute again.
scattered = [client.scatter(bytes(2000 + n), broadcast=False) for n in range(40)]
print("ready")
for line in sys.stdin:
    sizes = [len(data) for data in client.gather(computed + scattered)]
    assert sizes == [1000 + n for n in range(48)] + [2000 + n for n in range(40)], sizes
    print("whole")
"""


def test_a_scaler_that_is_killed_loses_no_key(cluster: Cluster) -> None:
    client = cluster.start_client(HOLDER)
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    assert len(units(cluster)) > 1
    # The log of what it has begun is written before anything is done about it.
    log, machine = "/var/lib/dask-perennial/lab/scaler/intents.jsonl", cluster.network["machine-a"]
    for what in ("drain", "remove", "drain", "remove"):
        until = f"until tail -n 1 {log} | grep -q {what}; do sleep 0.02; done"
        machine.run("timeout", "20", "sh", "-c", until, check=False)
        machine.run("systemctl", "kill", "-s", "KILL", "dask-lab-scaler", check=False)
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "whole\n"
    wait_until(lambda: len(units(cluster)) == 1, 120)
    # The last one holds what somebody still wants.
    time.sleep(8.0)
    assert len(units(cluster)) == 1
    client.stdin.write("\n")
    client.stdin.flush()
    assert client.stdout.readline() == "whole\n"
    client.stdin.close()
    assert client.wait(60) == 0
    wait_until(lambda: not units(cluster), 120)


def pinned(cluster: Cluster, size: int) -> dict[str, int]:
    """Have so many members; gives their process ids."""
    cluster.perennial("scale", f"cpu={size}")
    wait_until(lambda: len(units(cluster)) == size, 120)
    return units(cluster)


def test_up_again_changes_nothing_whoever_runs(cluster: Cluster) -> None:
    pinned(cluster, 4)
    pinned(cluster, 3)
    before = units(cluster)
    assert set(re.findall(r"\d+ (\w+)", cluster.up())) == {"unchanged"}
    assert cluster.plan() == []
    assert units(cluster) == before
    assert {f"cpu-{member}" for member in before} <= set(cluster.services())


def test_other_bounds_restart_no_member(cluster: Cluster) -> None:
    before = units(cluster)
    cluster.write(described(max=6))
    lines = cluster.plan()
    assert all("keeper" in line or "scaler" in line for line in lines), lines
    cluster.up()
    assert units(cluster) == before
    assert len(pinned(cluster, 6)) == 6
    # The scaler goes down to the new maximum by itself, as soon as it has restarted.
    cluster.perennial("pause")
    cluster.write(described())
    cluster.up()
    assert len(units(cluster)) == 6
    cluster.perennial("resume")
    pinned(cluster, 2)


def test_members_outlive_their_keeper(cluster: Cluster) -> None:
    before = units(cluster)
    kill_keepers(cluster)
    assert units(cluster) == before
    after = pinned(cluster, 4)
    assert before.items() <= after.items()
    # Killed just after it was told: what it has written down it ends.
    cluster.perennial("scale", "cpu=2")
    for _ in range(8):
        kill_keepers(cluster)
        time.sleep(3.0)
    wait_until(lambda: len(units(cluster)) == 2, 120)


def test_the_scheduler_restarts(cluster: Cluster) -> None:
    before = set(units(cluster))
    numbers = {place: wanted(cluster, place) for place in PLACES}
    cluster.perennial("restart", "scheduler")
    wait_until(lambda: cluster.workers() == len(before), 120)
    assert set(units(cluster)) == before
    assert {place: wanted(cluster, place) for place in PLACES} == numbers
    assert len(pinned(cluster, 3)) == 3


def test_a_reboot_brings_back_just_those_who_ran(cluster: Cluster) -> None:
    place = "machine-c"
    numbers = wanted(cluster, place)
    before = units(cluster)
    assert numbers
    cluster.network[place].reboot()
    wait_until(lambda: set(units(cluster)) == set(before), 120)
    assert wanted(cluster, place) == numbers
    stayed = {member: pid for member, pid in before.items() if not member.startswith(place)}
    assert stayed.items() <= units(cluster).items()
    wait_until(lambda: cluster.workers() == len(before), 60)


def test_a_keeper_listens_on_nothing_and_does_nothing_else(cluster: Cluster) -> None:
    machine = cluster.network["machine-b"]
    before, numbers = units(cluster), wanted(cluster, "machine-b")
    pids = keepers(machine)
    assert set(pids) == {"relay", "keeper.py"}
    users = {}
    for name, pid in pids.items():
        found = machine.run("sh", "-c", f"ls -l /proc/{pid}/fd | grep -o 'socket:.[0-9]*'").stdout
        for table in ("tcp", "tcp6", "udp", "udp6"):
            lines = machine.run("cat", f"/proc/net/{table}").stdout.splitlines()[1:]
            heard = {words[9] for words in map(str.split, lines) if words[3] in ("0A", "07")}
            assert not heard & set(re.findall(r"\d+", found))
        status = machine.run("cat", f"/proc/{pid}/status").stdout
        assert re.findall(r"Cap(?:Eff|Prm|Bnd|Inh|Amb):\t(\w+)", status) == ["0" * 16] * 5
        users[name] = machine.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip()
    assert users == {"relay": "dask-lab", "keeper.py": "root"}
    # Root's part has a network of its own, in which there is nothing.
    links = machine.run("cat", f"/proc/{pids['keeper.py']}/net/dev").stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in links] == ["lo"]
    # What is forged counts as wanted until the keeper answers: the scaler must not act on it.
    cluster.perennial("pause")
    cluster.client(
        "def ask(**wanted):\n"
        "    return client.sync(client.scheduler.perennial_size, **wanted)\n"
        "ask(group='cpu', wanted={'machine-b': {'want': [99]}})\n"
        "time.sleep(3)\n"
        "for group, want in (('sshd', [0]), ('cpu', [-1]), ('cpu', ['0/../../ssh'])):\n"
        "    try:\n"
        "        ask(group=group, wanted={'machine-b': {'want': want}})\n"
        "    except (ValueError, TypeError):\n"
        "        continue\n"
        "    raise AssertionError(group)\n"
    )
    log = machine.run("journalctl", "-u", "dask-lab-keeper", "-o", "cat").stdout
    assert "refused: cpu: found member 99; allowed: below 2" in log
    assert wanted(cluster, "machine-b") == numbers
    assert units(cluster) == before
    cluster.perennial("resume")


#: Lets the scheduler answer keepers with an object that runs code where it is unpickled.
TAKE_OVER = """
def take_over(want, dask_scheduler=None):
    code = (
        "[__import__('os').write(2, ('ran %d %d\\\\n' % (__import__('os').geteuid(),"
        f" __import__('os').getpid())).encode()), {want!r}][1]"
    )
    class Evil:
        def __reduce__(self):
            return eval, (code,)
    dask_scheduler.kept = dask_scheduler.handlers["perennial_keep"]
    dask_scheduler.handlers["perennial_keep"] = lambda **said: Evil()
def give_back(dask_scheduler=None):
    dask_scheduler.handlers["perennial_keep"] = dask_scheduler.kept
def asks(*want):
    return {"cpu": {"id": "x", "want": list(want), "unstarted": []}}
"""


def test_who_takes_the_scheduler_over_is_root_nowhere(cluster: Cluster) -> None:
    pinned(cluster, 2)
    cluster.perennial("pause")
    machine = cluster.network["machine-b"]
    before, pids = units(cluster), keepers(machine)
    dask = machine.run("id", "-u", "dask-lab").stdout.strip()
    cluster.client(
        f"{TAKE_OVER}\n"
        "for want in ('no asks at all', asks(0, 99), asks('../../ssh'), asks(*range(15_000))):\n"
        "    client.run_on_scheduler(take_over, want)\n"
        "    time.sleep(3)\n"
        "    client.run_on_scheduler(give_back)\n",
        timeout=120,
    )
    lines = machine.run("journalctl", "-o", "cat").stdout.splitlines()
    ran = {line for line in lines if line.startswith("ran ")}
    assert ran == {f"ran {dask} {pids['relay']}"}
    log = machine.run("journalctl", "-u", "dask-lab-keeper", "-o", "cat").stdout
    assert "refused: found str; allowed: an object with an ask by group" in log
    assert "refused: cpu: found member 99; allowed: below 2" in log
    assert "refused: cpu: found ['../../ssh']; allowed: a list of whole numbers" in log
    assert re.search(r"refused: found a message of \d+ bytes; allowed: up to 65536", log)
    assert keepers(machine) == pids
    assert units(cluster) == before
    cluster.perennial("resume")


def test_a_change_restarts_members_one_after_another_and_loses_nothing(cluster: Cluster) -> None:
    pinned(cluster, 3)
    client = cluster.start_client(HOLDER)
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    before = units(cluster)
    cluster.write(described().replace("512 MiB", "600 MiB"))
    assert any("cpu each member changed; drained first" in line for line in cluster.plan())
    cluster.up()
    after = units(cluster)
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    client.stdin.write("\n")
    client.stdin.flush()
    assert client.stdout.readline() == "whole\n"
    client.stdin.close()
    assert client.wait(60) == 0


def test_other_machines_take_over_from_one_that_is_gone(cluster: Cluster) -> None:
    gone = cluster.network["machine-c"]
    pinned(cluster, 0)
    before = pinned(cluster, 2)
    assert {member[:9] for member in before} == set(PLACES)
    gone.cut_power()
    there = cluster.network["machine-b"]
    pattern = r"(?:-P )?-m dask worker .* --name cpu-(\S+)"
    wait_until(lambda: len(processes(there, pattern)) == 2, 120)
    gone.boot()
    # Its member is back, and one of the three is drained.
    wait_until(lambda: cluster.workers() == 2 and len(units(cluster)) == 2, 180)
    assert set(before) & set(units(cluster))
