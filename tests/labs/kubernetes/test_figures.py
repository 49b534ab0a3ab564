"""Figures of a cluster on Kubernetes, and of a plain Deployment beside it; printed and bounded.

Nodes share this machine with all tests, so a time has a bound only where it is compared.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
import yaml

from tests.homes import wait_until
from tests.labs.kubernetes.lab import IMAGE, Lab
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.release import chart
from tests.labs.kubernetes.test_faults import pods, processes, ready
from tests.labs.kubernetes.test_story import CLUSTER, TLS, apply, stand
from tests.labs.kubernetes.work import WHOLE, Work

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

#: Seconds in which the calls of an idle scaler are counted.
IDLE = 120
#: Chooses the pods of a cluster.
DASK = "app.kubernetes.io/name=dask"
#: How often what varies is measured.
TURNS = 3
#: Eight members that leave, and two that take their data: the node holds just as much, so nothing
#: grows beside them.
MANY = CLUSTER.replace(
    "cpu: {count: 3, memory: 256 MiB, drain: 20 s}",
    "cpu: {count: 8, memory: 448 MiB, drain: 5 min}",
).replace(
    "big: {memory: 256 MiB, resources: {BIG: 1}, scale: {min: 1, max: 3, idle: 1 h}}",
    "keep: {memory: 1280 MiB, scale: {min: 2, max: 2}}",
)
#: Holds a GB on eight members: moves it once by a task, and waits until they have drained. How long
#: that took, the scheduler's own events say. A result that is computed again is another one.
DRAIN = (
    TLS
    + """
import json, os, sys, time, zlib
from distributed import wait

c = connected()

def named(group):
    workers = c.sync(c.scheduler.identity, n_workers=-1)["workers"].items()
    return {a: w["status"] for a, w in workers if f"-{group}-" in w["name"]}

def made():
    found = [
        c.submit(os.urandom, 5_000_000, workers=[a], allow_other_workers=True, pure=False)
        for a in sorted(named("cpu")) for _ in range(25)
    ]
    wait(found)
    return found

def size(parts):
    return sum(map(len, parts))

while len(named("cpu")) < 8 or len(named("keep")) < 2:
    time.sleep(0.2)
stay = sorted(named("keep"))
data = made()
begun = time.monotonic()
sizes = [c.submit(size, data[i::2], workers=[a], pure=False) for i, a in enumerate(stay)]
moved = sum(c.gather(sizes))
transfer = time.monotonic() - begun
del data, sizes
while any(c.has_what().values()):
    time.sleep(0.1)
data = made()
before = c.gather(c.map(zlib.crc32, data, pure=False))
members, since = named("cpu"), time.time()
print(json.dumps("ready"), flush=True)
while named("cpu"):
    time.sleep(0.1)
events = [(at, e) for a in members for at, e in c.get_events(a) if at > since]
begun = min(at for at, e in events if e.get("status") == "closing_gracefully")
gone = [at for at, e in events if e["action"] == "remove-worker"]
assert len(gone) == 8, events
drain = max(gone) - begun
after = c.gather(c.map(zlib.crc32, data, pure=False))
other = sum(one != two for one, two in zip(before, after))
print(json.dumps({"moved": moved, "transfer": transfer, "drain": drain, "other": other}))
"""
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    with with_node() as lab:
        stand(lab, home, CLUSTER)
        yield lab


def spread(values: list[float]) -> str:
    """Write the median and what is around it."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def requests(log: Path) -> dict[str, str]:
    """Return what the pods of the namespace asked of the API server so far, by its number."""
    found = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        found[event["auditID"]] = f"{event['verb']} {event['requestURI']}"
    return found


def test_an_idle_scaler_asks_seldom_and_is_small(lab: Lab) -> None:
    log = lab.root / "log" / "audit.log"
    wait_until(lambda: any("watch=true" in uri for uri in requests(log).values()), 60)
    time.sleep(20)  # what has just started may still change
    before = requests(log)
    time.sleep(IDLE)
    asked = {key: uri for key, uri in requests(log).items() if key not in before}
    (scaler,) = pods("scaler")
    memory = sum(each.memory_info().rss for each in processes(scaler)) / 1e6
    print(f"\nscaler: {len(asked)} calls in {IDLE} s without work, {memory:.0f} MB")
    assert len(asked) * 3600 / IDLE <= 60, asked
    assert memory <= 120


def test_a_worker_comes_soon_after_its_work(lab: Lab) -> None:
    """The platform's own part is what a Deployment takes that somebody sizes."""
    own, whole = [], []
    with Work(lab) as work:
        for turn in range(TURNS):
            known = work.ask("list(workers())")
            begun: list[float] = []

            def size(to: int, begun: list[float]) -> None:
                begun.append(time.time())
                lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", f"--replicas={to}")

            timer = threading.Timer(1, size, (4 + turn, begun))
            timer.start()
            platform = work.ask(f"arrival(set({known}))") - begun[0]
            whole.append(work.ask("grow()"))
            own.append(whole[-1] - platform)
            assert work.ask("sorted(c.gather(sys.f))") == list(range(12))
            lab.kubectl("-n", "dask", "scale", "deployment/lab-big", "--replicas=1")
            wait_until(lambda: work.ask("sum('-big-' in name for name in workers())") == 1, 120)
        assert work.report() == WHOLE
    print(f"\nfrom work to its worker {spread(whole)} s; without the platform's {spread(own)} s")
    assert median(own) <= 3


def test_sizing_a_plain_deployment_loses_what_ours_keeps(lab: Lab) -> None:
    lab.kubectl("create", "namespace", "plain")
    made = chart("lab", "lab-dask", 3)
    for each in made[:2]:
        (container,) = each["spec"]["template"]["spec"]["containers"]
        module = container["args"][0].replace("-", "_")
        container |= {"image": IMAGE, "command": ["python", "-m", f"distributed.cli.{module}"]}
        container |= {"args": container["args"][1:]}
        container["resources"] = {"requests": {"cpu": "50m"}}
    lab.kubectl(
        "-n", "plain", "apply", "-f", "-", text="---\n".join(yaml.safe_dump(each) for each in made)
    )
    for part in ("scheduler", "worker"):
        lab.kubectl("-n", "plain", "rollout", "status", f"deployment/lab-dask-{part}")
    address = "Client('tcp://lab-dask-scheduler.plain.svc:8786', timeout=60)"
    with Work(lab, address, "tcp:", least=3) as work:
        members = work.members
        lab.kubectl("-n", "plain", "scale", "deployment/lab-dask-worker", "--replicas=1")
        wait_until(lambda: work.ask("len(workers())") == 1, 60)
        plain = work.report()
    assert members == 3

    wait_until(lambda: len(ready("cpu")) >= 3, 60)
    with Work(lab) as work:
        lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=1")
        wait_until(lambda: work.ask("sum('-cpu-' in name for name in workers())") == 1, 120)
        ours = work.report()
    print(f"\nkubectl scale from 3 to 1: plain {plain}, ours {ours}")
    assert ours == WHOLE
    assert plain["lost"] > 0


def test_a_drain_takes_little_longer_than_its_bytes(lab: Lab, home: Path) -> None:
    # Pods that stand would be replaced one after another, each drained.
    lab.kubectl("-n", "dask", "delete", "deployment", "--all")
    wait_until(lambda: not lab.kubectl("-n", "dask", "get", "pods", "-l", DASK, "-o", "name"), 120)
    apply(lab, home, MANY)
    ratios, bandwidths = [], []
    for _ in range(TURNS):
        lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=8")
        kubectl = str(lab.root / "bin" / "kubectl")
        with subprocess.Popen(
            [kubectl, "-n", "dask", "exec", "client", "--", "python", "-c", DRAIN],
            stdout=subprocess.PIPE,
            text=True,
        ) as client:
            assert client.stdout is not None
            assert json.loads(client.stdout.readline()) == "ready"
            lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=0")
            told = json.loads(client.stdout.readline())
        assert told["other"] == 0, "lost, or computed again"
        assert told["moved"] == 10**9
        ratios.append(told["drain"] / told["transfer"])
        bandwidths.append(told["moved"] / told["transfer"] / 1e6)
    print(f"\ndrain of 8 workers with 1 GB: {spread(ratios)} of the time that the bytes take,")
    print(f"at {spread(bandwidths)} MB/s; 0 lost, 0 computed again")
    assert median(ratios) <= 1.3
