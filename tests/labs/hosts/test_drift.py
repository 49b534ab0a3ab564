"""What becomes of machines between two deploys: `refresh` and `plan` name it, `up` repairs it.

In each round every machine is changed in one way, so that each kind of drift stands alone.
The tests run in their order on one cluster; each leaves it whole.
"""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.labs.hosts.clusters import Cluster, changed, cluster_file, wait_until
from tests.labs.hosts.network import Network
from tests.labs.hosts.wheelhouse import wheelhouse

pytestmark = pytest.mark.lab

UNITS = "/etc/systemd/system"
CONFIG = "/etc/dask-perennial/lab"
STATE = "/var/lib/dask-perennial/lab"
#: What somebody does to machine-b, machine-c and machine-a, what is then said of each, and the
#: services that `up` starts again.
ROUNDS: dict[str, tuple[dict[str, tuple[str, str]], set[str]]] = {
    "files": (
        {
            "machine-b": (
                f"rm '{UNITS}/dask-lab-cpu@.service'",
                f"{UNITS}/dask-lab-cpu@.service is missing",
            ),
            "machine-c": (
                f"echo '# x' >> {CONFIG}/cpu.yaml",
                f"{CONFIG}/cpu.yaml was edited",
            ),
            "machine-a": (
                f"echo '# x' >> {UNITS}/dask-lab-scheduler.service; systemctl daemon-reload",
                f"{UNITS}/dask-lab-scheduler.service was edited",
            ),
        },
        set(),
    ),
    "owners, modes and users": (
        {
            "machine-b": (
                f"chmod 644 {CONFIG}/tls/worker-key.pem",
                f"{CONFIG}/tls/worker-key.pem has another owner or mode",
            ),
            "machine-c": (
                "sed -i /^dask-lab:/d /etc/passwd /etc/group /etc/gshadow /etc/shadow",
                "the user dask-lab is missing",
            ),
            "machine-a": (
                f"chown daemon {UNITS}/dask-lab-scheduler.service",
                f"{UNITS}/dask-lab-scheduler.service has another owner or mode",
            ),
        },
        set(),
    ),
    "services": (
        {
            "machine-b": ("systemctl stop dask-lab-cpu@1", "dask-lab-cpu@1 is stopped"),
            "machine-c": ("systemctl disable dask-lab.target", "lab is not started at boot"),
            "machine-a": (f"rm {STATE}/manifest.json", "nothing of lab is there"),
        },
        {"cpu-machine-b-1"},
    ),
}


@pytest.fixture(scope="module")
def lab(network: Network) -> Cluster:
    """A cluster whose environment is made on its machines, from wheels."""
    network.machines("machine-a", "machine-b", "machine-c")
    made = Cluster(network)
    environment = {"requirements": ["dask", "distributed"], "wheelhouse": str(wheelhouse())}
    made.write(cluster_file(environment=environment, jupyter=None))
    made.up()
    wait_until(lambda: made.workers() == 4)
    return made


@pytest.mark.parametrize("name", ROUNDS)
def test_each_drift_is_named_in_a_line_and_repaired_alone(lab: Cluster, name: str) -> None:
    changes, restarted = ROUNDS[name]
    before = lab.pids()
    for machine, (script, _) in changes.items():
        lab.network[machine].run("sh", "-ec", script)
    expected = [
        f"~ {machine} update {machine} {line}" for machine, (_, line) in sorted(changes.items())
    ]
    assert lab.refresh() == expected
    assert lab.plan() == expected
    assert lab.up() == "3 changed, 4 unchanged"
    assert changed(before, lab.pids()) == restarted
    for machine in changes:
        target = lab.network[machine].run("systemctl", "is-enabled", "dask-lab.target")
        assert target.stdout == "enabled\n"
    key = lab.network["machine-b"].run("stat", "-c", "%a", f"{CONFIG}/tls/worker-key.pem")
    assert key.stdout == "600\n"


def test_what_was_started_with_an_edited_unit_restarts_alone(lab: Cluster) -> None:
    before, machine = lab.pids(), lab.network["machine-b"]
    unit = f"{UNITS}/dask-lab-cpu@.service"
    edit = f"sed -i 's/^LimitNOFILE=.*/LimitNOFILE=4321/' '{unit}'; systemctl daemon-reload"
    machine.run("sh", "-ec", f"{edit}; systemctl restart dask-lab-cpu@0")
    wait_until(lambda: lab.workers() == 4)
    expected = [
        f"~ machine-b update machine-b {unit} was edited",
        f"~ machine-b update machine-b dask-lab-cpu@0 was started with {unit} as it was edited,"
        " and restarts",
    ]
    assert lab.refresh() == expected
    assert lab.plan() == expected
    edited = lab.pids()
    assert changed(before, edited) == {"cpu-machine-b-0"}
    assert lab.up() == "1 changed, 6 unchanged"
    assert changed(edited, lab.pids()) == {"cpu-machine-b-0"}
    limits = machine.run("cat", f"/proc/{lab.pids()['cpu-machine-b-0']}/limits").stdout
    assert "4321" not in limits
    assert lab.refresh() == []


def test_a_killed_worker_comes_back_by_itself_and_is_no_drift(lab: Cluster) -> None:
    before = lab.pids()
    killed = "cpu-machine-c-0"
    lab.network["machine-c"].run("kill", f"-{int(signal.SIGKILL)}", str(before[killed]))
    wait_until(lambda: lab.workers() == 4 and lab.pids()[killed] not in (0, before[killed]))
    assert lab.refresh() == []
    assert changed(before, lab.pids()) == {killed}


def test_an_environment_that_changed_is_made_whole(lab: Cluster) -> None:
    before, machine = lab.pids(), lab.network["machine-b"]
    # toolz is needed to start a worker; those that run have read it.
    machine.run("sh", "-ec", f"rm -r {STATE}/env-*/lib/python3*/site-packages/toolz*")
    expected = ["~ machine-b update machine-b the Python environment changed"]
    assert lab.refresh() == expected
    assert lab.plan() == expected
    assert lab.up() == "1 changed, 6 unchanged"
    machine.run("sh", "-ec", f"{STATE}/env-*/bin/python -c 'import toolz.functoolz'")
    assert changed(before, lab.pids()) == set()


def test_a_machine_that_is_off_is_one_line_and_the_others_are_repaired(lab: Cluster) -> None:
    before = lab.pids()
    lab.network["machine-c"].stop()
    lab.network["machine-b"].run("systemctl", "stop", "dask-lab-cpu@1")
    for lines in (lab.refresh(), lab.plan()):
        assert len(lines) == 2, lines
        assert lines[0] == "~ machine-b update machine-b dask-lab-cpu@1 is stopped"
        assert lines[1].startswith("~ machine-c update machine-c ")
    done = lab.perennial("up", "--yes", check=False)
    assert done.returncode == 1
    said = [line for line in _last(done).splitlines() if "machine-c" in line]
    assert said, done
    assert "Traceback" not in done.stderr
    lab.network["machine-c"].boot()
    wait_until(lambda: lab.workers() == 4)
    assert lab.up().endswith("unchanged")
    # And of all the drift of these tests nothing is left.
    assert lab.plan() == []
    after = lab.pids()
    gone = {name for name in before if name.startswith("cpu-machine-c")}
    assert changed(before, after) == {*gone, "cpu-machine-b-1"}


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """What it says at its end, after the lines of its progress."""
    return "\n".join(line for line in done.stderr.splitlines() if not line.startswith("lab: "))
