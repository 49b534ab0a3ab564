"""What a standing cluster does when processes, machines and networks fail under it.

One cluster for all tests: the scheduler on one machine, a worker on each of two others. Each
test leaves it whole. Bounds are generous: the machines share their processors with whatever
else runs here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs.hosts import faults
from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.host import Host
from tests.labs.hosts.network import Network
from tests.labs.hosts.standing import (
    CLIENT,
    MACHINES,
    Standing,
    cleared,
    complaints,
    show,
    wait_until,
)
from tests.labs.hosts.wheels import make_wheelhouse

pytestmark = pytest.mark.timeout(600)

WORKERS = ["cpu-machine-b-0", "cpu-machine-c-0"]

#: Seconds for workers to be back: from a scheduler's death, from a machine's boot.
RESTART, BOOT = 60.0, 90.0
#: Seconds in which a silent connection is given up (Dask's comm.timeouts.tcp is 30 s).
SILENCE = 90.0

#: Run on the scheduler's machine: kills it, and waits until the next one has all workers.
_KILL = """
import http.client, json, os, socket, sys, time
class Pages(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(2)
        self.sock.connect("/var/lib/dask-perennial/lab/pages/http")
begin = time.monotonic()
os.kill(int(sys.argv[1]), 9)
while time.monotonic() < begin + 120:
    try:
        pages = Pages("localhost")
        pages.request("GET", "/json/counts.json")
        if json.load(pages.getresponse())["workers"] == int(sys.argv[2]):
            break
    except (OSError, http.client.HTTPException):
        pass
    time.sleep(0.05)
print(time.monotonic() - begin)
"""

#: A computation of 200 tasks whose 40 inputs lie on both machines; begins when it is told to,
#: and says how often something was computed again.
_COMPUTATION = """
import threading
def make(i):
    import time
    time.sleep(0.1)
    return i
def use(x, y):
    import time
    time.sleep(0.1)
    return x * x + y
inputs = client.map(make, range(40), pure=False)
from distributed import wait
wait(inputs)
holders = {who for some in client.who_has(inputs).values() for who in some}
print(len(holders), flush=True)
results = [client.submit(use, inputs[i % 40], i, pure=False) for i in range(160)]
sys.stdin.readline()
begin = time.monotonic()
total = sum(client.gather(results))
assert total == sum((i % 40) ** 2 + i for i in range(160)), total
lost = [f.status for f in (*inputs, *results) if f.status != "finished"]
print(lost, flush=True)
print(time.monotonic() - begin, flush=True)
"""


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[Standing]:
    network.machines(*MACHINES)
    made = Standing(network)
    made.up()
    yield made
    made.down()
    assert cleared(made.picture(), MACHINES)


@pytest.fixture
def machine_a(cluster: Standing) -> Host:
    return cluster.network["machine-a"]


@pytest.fixture
def machine_c(cluster: Standing) -> Host:
    return cluster.network["machine-c"]


@pytest.fixture(autouse=True)
def whole(cluster: Standing) -> Iterator[None]:
    """Whatever happened, all workers are there again, each once, and nothing has drifted."""
    yield
    wait_until(lambda: cluster.workers() == WORKERS, 60)
    assert "nothing to change" in cluster.run("plan").stdout


class Computation:
    """A computation of a user's that is under way."""

    def __init__(self, cluster: Standing) -> None:
        self._process = cluster.operator.popen(
            *(sys.executable, "-uc", CLIENT + _COMPUTATION),
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        self.holders = int(self._process.stdout.readline())

    def finish(self, timeout: float = 200.0) -> float:
        """Wait for its end; returns the seconds since this call."""
        said, _ = self._process.communicate("now\n", timeout)
        assert self._process.returncode == 0, said
        # What the loss of a connection makes Dask write comes before.
        lost, seconds = [line for line in said.splitlines() if line][-2:]
        assert lost == "[]", said
        return float(seconds)


@pytest.mark.lab
def test_the_scheduler_is_killed(machine_a: Host) -> None:
    pid = show(machine_a, "dask-lab-scheduler", "MainPID")
    seconds = float(machine_a.run("python3", "-c", _KILL, pid, "2", timeout=150).stdout)
    print(f"all workers back {seconds:.1f} s after the scheduler's death")
    assert seconds < RESTART
    assert show(machine_a, "dask-lab-scheduler", "MainPID") != pid


@pytest.mark.lab
def test_the_scheduler_s_machine_reboots(cluster: Standing, machine_a: Host) -> None:
    machine_a.reboot()
    begin = time.monotonic()
    cluster.python(f"await_workers(2, {BOOT})")
    print(f"all workers back {time.monotonic() - begin:.1f} s after the boot")


@pytest.mark.lab
def test_a_worker_s_machine_loses_its_power(cluster: Standing, machine_c: Host) -> None:
    """Its data is computed again elsewhere; back with power, it is back at work."""
    computation = Computation(cluster)
    assert computation.holders == 2
    machine_c.cut_power()
    try:
        seconds = computation.finish()
        print(f"the computation ended {seconds:.1f} s after the loss")
        assert seconds < SILENCE
        assert cluster.workers() == WORKERS[:1]
        # Nobody waits for a machine that is off, to say what is the matter.
        done = cluster.run("plan", check=False)
        assert any("machine-c" in line for line in (*complaints(done), *done.stdout.splitlines()))
    finally:
        machine_c.boot()
    begin = time.monotonic()
    cluster.python(f"await_workers(2, {BOOT})")
    print(f"the worker is back {time.monotonic() - begin:.1f} s after the boot")


def cut(cluster: Standing, machine: Host, seconds: float) -> None:
    computation = Computation(cluster)
    with machine.unreachable():
        begin = time.monotonic()
        if seconds > SILENCE:  # long before it is mended
            assert computation.finish(seconds) < SILENCE
        time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
    begin = time.monotonic()
    if seconds <= SILENCE:
        ended = computation.finish()
        print(f"the computation ended {ended:.1f} s after a cut of {seconds:g} s")
        assert ended < SILENCE
    cluster.python(f"await_workers(2, {BOOT})")
    print(f"the worker is back {time.monotonic() - begin:.1f} s after a cut of {seconds:g} s")


@pytest.mark.lab
def test_a_network_is_cut_for_30_s(cluster: Standing, machine_c: Host) -> None:
    cut(cluster, machine_c, 30)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_network_is_cut_for_5_minutes(cluster: Standing, machine_c: Host) -> None:
    cut(cluster, machine_c, 300)


@pytest.mark.lab
def test_a_disk_is_full_in_an_upload(cluster: Standing, machine_c: Host) -> None:
    """Of an environment; with space again, the same command goes on."""
    wheels = make_wheelhouse(cluster.operator.home / "wheels")
    (cluster.operator.home / "one.yaml").write_text(json.dumps(_alone(wheels)))
    up = ("up", "--yes", "--no-connect", "-f", "one.yaml")
    machine_c.run("mkdir", "-p", "/var/lib/dask-perennial/one")
    with faults.small_disk(machine_c, "/var/lib/dask-perennial/one", "4M"):
        done = cluster.run(*up, check=False)
        left = machine_c.run("find", "/var/lib/dask-perennial/one", "-type", "f").stdout
    assert done.returncode == 1
    (line,) = [line for line in complaints(done) if not line.startswith("one: ")]
    assert line.startswith("machine-c: /var/lib/dask-perennial/one/"), line
    assert "no space left on device" in line
    assert not left, "half a file stays"
    cluster.run(*up)
    assert "nothing to change" in cluster.run("plan", "-f", "one.yaml").stdout
    cluster.run("down", "-c", "one", "--force", "--purge")
    picture = json.dumps(cluster.picture()["machines"]["machine-c"])
    assert "dask-one" not in picture
    assert "dask-perennial/one" not in picture


def _alone(wheels: Path) -> dict[str, object]:
    """Describe a second cluster, on one machine alone."""
    return {
        "name": "one",
        "platform": "hosts",
        "environment": {"requirements": ["dask", "distributed"], "wheelhouse": str(wheels)},
        "jupyter": None,
        "workers": {"cpu": {"count": 1, "memory": "256 MiB"}},
        "hosts": {"machines": ["machine-c"]},
    }
