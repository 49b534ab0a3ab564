"""Faults on real kubelets, under load: each says exactly what is lost and what runs again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from perennial.platforms.kubernetes.client import Api, ApiError, is_ready
from perennial.platforms.kubernetes.fleet import KubernetesFleet
from tests.homes import wait_until
from tests.labs.kubernetes.lab import IMAGE, Lab
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.test_story import CLUSTER, apply, stand
from tests.labs.kubernetes.work import WHOLE, Work

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

#: The same image under another name, for a rolling change.
OTHER = IMAGE.replace(":1", ":2")
#: The group `big` leaves soon, and comes back at one step.
FILE = CLUSTER.replace("idle: 1 h", "idle: 5 s").replace(
    "jupyter: null", "scaler: {interval: 2 s}\njupyter: null"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    with with_node() as lab:
        stand(lab, home, FILE)
        yield lab


@pytest.fixture
def work(lab: Lab) -> Iterator[Work]:
    """Work on a cluster that is whole."""
    wait_until(lambda: len(ready("cpu")) == 3, 120)
    with Work(lab) as work:
        assert work.members == 3
        yield work


def pods(part: str) -> list[Any]:
    chosen = f"dask-perennial/part={part}"
    listed: list[Any] = Api().core.list_namespaced_pod("dask", label_selector=chosen).items
    return [pod for pod in listed if pod.metadata.deletion_timestamp is None]


def ready(part: str) -> set[str]:
    return {pod.metadata.name for pod in pods(part) if is_ready(pod)}


def refilled(part: str, gone: set[str], size: int) -> None:
    """Wait until a group has its size without those that went."""
    wait_until(lambda: len(ready(part) - gone) == size, 120)


def processes(pod: Any) -> list[psutil.Process]:
    """List the processes of a pod, as this machine sees them."""
    found = []
    for process in psutil.process_iter():
        try:
            groups = Path(f"/proc/{process.pid}/cgroup").read_text()
        except OSError:
            continue
        if f"pod{pod.metadata.uid}" in groups:
            found.append(process)
    return found


def name_again(lab: Lab, node: str) -> None:
    """Give the image another name on a node."""
    containers = str(lab.root / "root" / "usr" / "bin" / "ctr")
    lab.inside(node, containers, "-n", "k8s.io", "images", "tag", "--force", IMAGE, OTHER)


def evict(name: str) -> int:
    """Ask for an eviction; return the status that the API server gives."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    api = Api()
    try:
        evicting = api.core.create_namespaced_pod_eviction
        api.call("evict", evicting, name, "dask", body, _preload_content=False)
    except ApiError as error:
        return error.status
    return 201


def test_a_pod_that_is_deleted_drains(lab: Lab, work: Work) -> None:
    first = min(ready("cpu"))
    lab.kubectl("-n", "dask", "delete", "pod", first)
    refilled("cpu", {first}, 3)
    assert work.report() == WHOLE


def test_an_evicted_pod_drains_and_the_budget_is_kept(lab: Lab, work: Work) -> None:
    first, second, _ = sorted(ready("cpu"))
    (scheduler,) = ready("scheduler")
    assert evict(first) == 201
    assert evict(second) == 429, "one at a time"
    assert evict(scheduler) == 429, "never by itself"
    refilled("cpu", {first}, 3)
    assert work.report() == WHOLE


def test_a_worker_without_memory_loses_what_it_alone_held(lab: Lab, work: Work) -> None:
    """The kernel kills the worker; its nanny starts another in the same pod."""
    victim = min(ready("cpu"))
    held = work.ask(
        f"(lambda at: [sum(at in where for where in c.who_has(keys).values())"
        f" for keys in (list(data.values()), done)])(workers()[{victim!r}])"
    )
    assert held[0] == 20
    work.ask(
        f"c.run(lambda: len(bytearray(2 * 10**9)), workers=[workers()[{victim!r}]],"
        " on_error='return') and None"
    )
    wait_until(lambda: work.ask(f"{victim!r} in workers()"), 60)
    assert work.report() == {"lost": held[0], "missing": 0, "again": held[1], "failed": []}
    assert victim in {pod.metadata.name for pod in pods("cpu")}


def test_a_rolling_change_of_variable_and_image(lab: Lab, home: Path, work: Work) -> None:
    """Pods are replaced one by one; those of other groups stay."""
    name_again(lab, "n1")
    before, big = ready("cpu"), ready("big")
    own = f"\n  workers: {{cpu: {{image: '{OTHER}'}}}}"
    changed = FILE.replace("cpu: {count: 3,", "cpu: {count: 3, env: {COLOUR: blue},")
    apply(lab, home, changed.rstrip() + own + "\n")
    wait_until(lambda: len(pods("cpu")) == 3, 60)
    assert not ready("cpu") & before
    assert {pod.spec.containers[0].image for pod in pods("cpu")} == {OTHER}
    assert ready("big") == big
    # Those of before may still drain.
    wait_until(lambda: work.ask("sum('-cpu-' in name for name in workers())") == 3, 60)
    seen = work.ask(
        "[*c.run(lambda: __import__('os').environ['COLOUR'],"
        " workers=[a for n, a in workers().items() if '-cpu-' in n]).values()]"
    )
    assert seen == ["blue"] * 3
    assert work.report() == WHOLE


def test_a_scaler_that_is_killed_in_the_middle_of_a_drain(lab: Lab, work: Work) -> None:
    fleet = KubernetesFleet("big", "dask", "lab-big")
    grown = (
        "setattr(sys, 'f', c.map(lambda n: (time.sleep(4), n)[1], range(6),"
        " resources={'BIG': 1}, pure=False)) or None"
    )
    work.ask(grown)
    wait_until(lambda: fleet.observe().desired == 3, 60)
    work.ask("c.gather(sys.f) and None")
    wait_until(lambda: len(ready("big")) == 3, 60)
    work.ask("stop.set()")  # the load runs on these members, too, and would keep all of them
    # Each member holds what takes seconds to move.
    work.ask(
        "setattr(sys, 'f', [c.submit(slow, n, workers=[a], key=f'slow-{n}') for n, a in"
        " enumerate(6 * [a for name, a in workers().items() if '-big-' in name])]) or None"
    )
    parked = (
        "'closing_gracefully' in {w['status']"
        " for w in c.sync(c.scheduler.identity, n_workers=-1)['workers'].values()}"
    )
    wait_until(lambda: work.ask(parked), 90)
    (scaler,) = pods("scaler")
    (running,) = (each for each in processes(scaler) if "python" in each.name())
    os.kill(running.pid, signal.SIGKILL)
    assert fleet.observe().desired > 1
    wait_until(lambda: fleet.observe().desired == 1, 180)
    wait_until(lambda: len(ready("big")) == 1, 120)
    assert pods("scaler")[0].status.container_statuses[0].restart_count == 1
    assert work.ask("[f.status for f in sys.f]") == ["finished"] * 18
    assert work.report() == WHOLE


def test_the_api_server_is_restarted(lab: Lab, work: Work) -> None:
    """What computes does not need it, and the scaler goes on where it stopped."""
    before = ready("cpu"), ready("scaler")
    (server,) = (
        each for each in psutil.process_iter(["name"]) if each.info["name"] == "kube-apiserver"
    )
    words = server.cmdline()
    server.kill()
    time.sleep(10)  # longer than two looks of the scaler
    lab.begin("cp", *words)
    wait_until(lambda: "ok" in lab.tried("get", "--raw", "/readyz"), 60)
    work.ask(
        "setattr(sys, 'f', c.map(lambda n: (time.sleep(4), n)[1], range(8),"
        " resources={'BIG': 1}, pure=False)) or None"
    )
    wait_until(lambda: KubernetesFleet("big", "dask", "lab-big").observe().desired > 1, 90)
    assert work.ask("c.gather(sys.f)") == list(range(8))
    assert (ready("cpu"), ready("scaler")) == before
    assert work.report() == WHOLE


def test_a_node_is_drained(lab: Lab, work: Work) -> None:
    """The budget lets members go one after another, and the scheduler not at all."""
    lab.join("n2")
    name_again(lab, "n2")
    drain = ("drain", "n1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=170s")
    lab.kubectl(*drain, "--pod-selector=app.kubernetes.io/component=worker")
    wait_until(lambda: {pod.spec.node_name for pod in pods("cpu")} == {"n2"}, 60)
    refilled("cpu", set(), 3)
    (scheduler,) = ready("scheduler")
    assert evict(scheduler) == 429
    assert work.report() == WHOLE
    lab.kubectl("uncordon", "n1")


def test_the_scheduler_is_killed(lab: Lab, work: Work) -> None:
    """Its state is lost, as Dask's is; workers and the same client come back by themselves."""
    before = ready("cpu")
    (scheduler,) = ready("scheduler")
    lab.kubectl("-n", "dask", "delete", "pod", scheduler, "--force", "--grace-period=0")
    refilled("scheduler", {scheduler}, 1)
    wait_until(lambda: work.ask("sum('-cpu-' in name for name in workers())") == 3, 120)
    assert ready("cpu") == before
    assert work.ask("c.submit(sum, [1, 2], pure=False).result(60)") == 3
    report = work.report()
    assert (report["lost"], report["missing"]) == (60, 60)
