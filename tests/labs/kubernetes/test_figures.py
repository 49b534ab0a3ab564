"""Figures of a cluster on Kubernetes, and of a plain Deployment beside it; printed and bounded.

Nodes share this machine with all tests, so a time has a bound only where it is compared.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.homes import wait_until
from tests.labs.kubernetes.build import refresh
from tests.labs.kubernetes.lab import IMAGE, Lab, cache, running
from tests.labs.kubernetes.release import chart
from tests.labs.kubernetes.test_faults import pods, processes, ready
from tests.labs.kubernetes.test_story import CLUSTER, stand
from tests.labs.kubernetes.work import WHOLE, Work

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

#: Seconds in which the calls of an idle scaler are counted.
IDLE = 120


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running() as lab:
        refresh(cache())
        lab.join("n1")
        stand(lab, tmp_path_factory.mktemp("home"), CLUSTER)
        yield lab


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
    with Work(lab) as work:
        known = work.ask("list(workers())")
        begun: list[float] = []

        def size() -> None:
            begun.append(time.time())
            lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=4")

        timer = threading.Timer(1, size)
        timer.start()
        platform = work.ask(f"arrival(set({known}))") - begun[0]
        taken = work.ask("grow()")
        assert work.ask("sorted(c.gather(sys.f))") == list(range(12))
        assert work.report() == WHOLE
    print(f"\nfrom work to its worker {taken:.1f} s, of which by kubectl scale {platform:.1f} s")
    assert taken - platform <= 5 + 3, "an interval of the scaler, and three seconds"


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
