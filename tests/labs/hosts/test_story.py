"""The story of the field: a scheduler on one machine, workers on two others, made permanent.

Told under systemd, and under supervisord on machines that systemd does not run. The tests run in
their order on one cluster.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.clusters import (
    MACHINES,
    Cluster,
    changed,
    cluster_file,
    home_of,
    traces,
    wait_until,
)
from tests.labs.hosts.host import Host
from tests.labs.hosts.network import Network

pytestmark = pytest.mark.lab

DROP_IN = "/etc/systemd/system/dask-lab-cpu@.service.d/ours.conf"


class Story:
    """A cluster, and what its machines were before it.

    Parameters
    ----------
    network : Network
        The lab.
    kind : str
        ``systemd``; ``supervisord`` under systemd; ``bare``: supervisord and nothing else.
    """

    def __init__(self, network: Network, kind: str) -> None:
        self.kind = kind
        self.cluster = Cluster(network)
        made = [network.add(name, systemd=kind != "bare") for name in MACHINES]
        network.boot(*made)
        self.machines: list[Host] = made
        if kind == "bare":
            for machine in made:
                machine.write("/etc/rc.local", "#!/bin/sh\n/usr/sbin/cron\n")
                machine.run("sh", "-ec", "chmod 755 /etc/rc.local; /etc/rc.local")
        wish = {"init": "supervisord"} if kind != "systemd" else {}
        self.cluster.write(cluster_file(hosts={"machines": list(MACHINES), **wish}))
        self.before = {machine.name: traces(machine) for machine in made}

    @property
    def user(self) -> str:
        """Whose the notebooks are: under supervisord all is the login user's."""
        return "dask-lab-jupyter" if self.kind == "systemd" else "ops"

    def state(self, machine: Host) -> str:
        """Folder of the cluster on a machine."""
        under = "/var/lib/dask-perennial" if self.kind == "systemd" else home_of(machine.name)
        return f"{under}/lab"


@pytest.fixture(
    scope="module", params=[pytest.param("systemd", marks=pytest.mark.smoke), "supervisord", "bare"]
)
def story(network: Network, request: pytest.FixtureRequest) -> Iterator[Story]:
    told = Story(network, request.param)
    yield told
    for machine in told.machines:
        network.remove(machine)


def _changing_nothing(story: Story) -> dict[str, str]:
    """When each file of the cluster on each machine was written."""
    script = "find /etc /usr/local $0 -name '*dask*' -newermt 2000-01-01 -printf '%p %T@\\n'"
    parts = "find /etc/dask-perennial $0/*.json $0/conf* -printf '%p %T@ %C@\\n' 2>/dev/null"
    return {
        machine.name: machine.run(
            "sh", "-c", f"{script}; {parts}", story.state(machine), check=False
        ).stdout
        for machine in story.machines
    }


def test_up_from_nothing_to_a_result(story: Story) -> None:
    assert story.cluster.up() == "7 made"
    assert story.cluster.workers() == 4
    # A new process, and no argument: the example is the one of the documentation.
    said = story.cluster.operator.run(
        sys.executable, str(CHECKOUT / "examples/flights.py"), timeout=200
    ).stdout
    assert said.startswith("tls://machine-a:8786: 4 threads\n")
    assert "Both agree with pandas and NumPy." in said


def test_up_again_changes_nothing(story: Story) -> None:
    before, files = story.cluster.pids(), _changing_nothing(story)
    assert set(before) == {"scheduler", "jupyter"} | {
        f"cpu-{machine}-{number}" for machine in ("machine-b", "machine-c") for number in (0, 1)
    }
    assert story.cluster.up() == "7 unchanged"
    assert story.cluster.pids() == before
    assert _changing_nothing(story) == files


def test_it_is_operated_from_the_operators_machine(story: Story) -> None:
    if story.kind == "bare":
        pytest.skip("as under supervisord with systemd")
    lab = story.cluster
    before = lab.services()
    assert {row["state"] for row in before.values()} == {"RUNNING"}
    assert before["cpu-machine-b-1"]["machine"] == "machine-b"
    assert lab.workers() == 4
    (row,) = json.loads(lab.perennial("list", "--json").stdout)
    assert (row["name"], row["platform"], row["state"]) == ("lab", "hosts", "up")
    assert row["scheduler"] == "tls://machine-a:8786"
    logs = lab.perennial("logs", "cpu-machine-c-1", "-n", "5").stdout.splitlines()
    assert 0 < len(logs) <= 5
    everything = lab.perennial("logs", "-n", "1").stdout
    assert {line.partition(": ")[0] for line in everything.splitlines()} == set(before)
    pids = lab.pids()
    lab.perennial("restart", "cpu")
    workers = {name for name in pids if name.startswith("cpu-")}
    assert changed(pids, lab.pids()) == workers


def test_a_size_belongs_to_scale_and_up_keeps_it(story: Story) -> None:
    if story.kind == "bare":
        pytest.skip("as under supervisord with systemd")
    lab = story.cluster
    before = lab.pids()
    assert lab.perennial("scale", "cpu=5").stdout == "lab: cpu 4 → 5\n"
    assert changed(before, lab.pids()) == {"cpu-machine-b-2"}
    assert lab.plan() == []
    assert lab.up() == "7 unchanged"
    lab.perennial("scale", "cpu=3")
    now = lab.pids()
    assert set(now) == set(before) - {"cpu-machine-c-1"}
    assert lab.up() == "7 unchanged"
    assert lab.pids() == now
    lab.perennial("scale", "cpu=4")


def test_a_drop_in_is_respected_and_never_touched(story: Story) -> None:
    if story.kind != "systemd":
        pytest.skip("drop-ins are systemd's")
    machine, text = story.cluster.network["machine-b"], "[Service]\nCPUWeight=7\n"
    machine.write(DROP_IN, text)
    machine.run("systemctl", "daemon-reload")
    assert story.cluster.plan() == []
    story.cluster.perennial("restart", "cpu-machine-b-0")
    shown = machine.run("systemctl", "show", "--value", "-p", "CPUWeight", "dask-lab-cpu@0")
    assert shown.stdout == "7\n"
    assert machine.run("cat", DROP_IN).stdout == text


def test_every_machine_reboots_and_all_comes_back_by_itself(story: Story) -> None:
    before = story.cluster.pids()
    with ThreadPoolExecutor() as pool:
        list(pool.map(Host.reboot, story.machines))
    wait_until(lambda: story.cluster.workers() == 4)
    assert story.cluster.client("print(client.submit(sum, [1, 2]).result())") == "3\n"
    after = story.cluster.services()
    assert set(after) == set(before)
    assert {row["state"] for row in after.values()} == {"RUNNING"}
    assert story.cluster.plan() == []


def test_down_leaves_nothing_but_notebooks_and_up_gives_them_back(story: Story) -> None:
    lab, machine = story.cluster, story.machines[0]
    folder = _notebooks(machine, story.state(machine))
    notebook = f"{folder}/deep/er/work.ipynb"
    script = 'mkdir -p "${1%/*}"; echo "{}" > "$1"; chown -R "$2:" "$3"/deep'
    machine.run("sh", "-ec", script, "sh", notebook, story.user, folder)
    said = lab.perennial("down", "--force").stdout
    assert said.startswith("lab is down\n")
    assert f"machine-a: left in place: {folder}\n" in said
    ours = {DROP_IN, DROP_IN.rpartition("/")[0], folder, notebook, f"{folder}/deep"}
    for each in story.machines:
        left = traces(each) - story.before[each.name]
        paths = {line.split()[0] for line in left if line.startswith("/")}
        known = {path for path in paths if path in ours or path.startswith(f"{folder}/")}
        parents = {path for path in paths if folder.startswith(path)} if each is machine else set()
        assert paths - known - parents == set(), each.name
        assert {line for line in left if not line.startswith("/")} == set(), each.name
        assert story.before[each.name] - traces(each) == set(), each.name
    mode = machine.run("stat", "-c", "%U %A", notebook).stdout
    assert mode.startswith("root -rw" if story.kind == "systemd" else "ops -rw")

    lab.up()
    owners = machine.run("find", folder, "-printf", "%u\n").stdout.split()
    assert set(owners) == {story.user}
    as_jupyter = ("runuser", "-u", story.user, "--", "sh", "-ec", 'cat "$1"; echo x >> "$1"')
    assert machine.run(*as_jupyter, "sh", notebook).stdout == "{}\n"
    lab.perennial("down", "--force", "--purge")
    assert [*(lab.operator.home / ".local/state/perennial").glob("*")] == []


def _notebooks(machine: Host, state: str) -> str:
    """Folder of the notebooks, as the machine's manifest says."""
    manifest = json.loads(machine.run("cat", f"{state}/manifest.json").stdout)
    (folder,) = manifest["notebooks"]
    return str(folder)
