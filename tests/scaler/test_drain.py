"""Drains of real workers under load, by a real scaler that is killed now and then."""

from __future__ import annotations

import random
import time

import pytest

from tests.preloads.conftest import made, until
from tests.scaler.burden import Burden, names
from tests.scaler.cluster import Cluster, standing
from tests.scaler.platform import MEMBER

pytestmark = pytest.mark.lab

GROUP = {"name": "cpu", "min": 0, "max": 8, "slots": 1, "drain": 60.0, "step_down": 1.0}


def shrink(cluster: Cluster, size: int, kills: list[float]) -> int:
    """Shrink the group to a size, killing the scaler after these times; count all drains so far."""
    platform = cluster.platforms["cpu"]
    cluster.pin("cpu", size)
    for pause in kills:
        time.sleep(pause)
        cluster.kill()
    until(lambda: platform.size() == size, f"there are {size}", 120)
    return sum(len(named) for _, named, _ in platform.asked)


@pytest.mark.parametrize(
    "drains",
    [
        pytest.param(10, marks=pytest.mark.timeout(600)),
        pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
def test_drains_under_load(drains: int) -> None:
    """Sizes go up and down; in a tenth of the drains the scaler is killed: nothing is lost."""
    chance = random.Random(11)
    with standing(dict(GROUP)) as cluster:
        cluster.pin("cpu", 6)
        cluster.start()
        client = cluster.lab.client(6)
        burden = Burden(client, cluster.lab.counted())
        done = turn = 0
        while done < drains:
            burden.more(40)
            burden.scatter()
            burden.name_workers()
            if turn % 2:
                burden.shuffle()
            turn += 1
            size = chance.choice((2, 3))
            tenths = (done + 6 - size) // 10 - done // 10
            kills = [chance.uniform(0.2, 2.5) for _ in range(tenths)]
            done = shrink(cluster, size, kills)
            burden.more(15)
            cluster.pin("cpu", 6)
            until(lambda: len(names(client)) >= 6, "six are there again", 120)
        assert cluster.kills >= drains // 10
        assert burden.check() == (0, 0)
        assert len(burden.shuffles) == turn // 2
        assert "restarted due to stimulus" not in cluster.lab.log("scheduler")
        assert cluster.stop() == 0
        assert cluster.log().count("Traceback") == 0
        assert {code for _, code in cluster.platforms["cpu"].codes} == {0}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drains", [100])
def test_the_same_by_plain_sigterm(drains: int) -> None:
    """What the drains are for: without them and without the scaler, work and data are lost."""
    chance = random.Random(11)
    with made() as lab:
        lab.scheduler()
        workers = {f"cpu-{n}": lab.worker(f"cpu-{n}", *MEMBER) for n in range(6)}
        client = lab.client(6)
        burden = Burden(client, lab.counted())
        done = 0
        while done < drains:
            burden.more(40)
            burden.scatter()
            for name in chance.sample(sorted(workers), 6 - chance.choice((2, 3))):
                process = workers.pop(name)
                process.terminate()
                done += 1
                process.wait(60)
                new = f"cpu-{6 + done}"
                workers[new] = lab.worker(new, *MEMBER)
            burden.more(15)
            until(lambda: len(names(client)) >= 6, "six are there again", 120)
        lost, twice = burden.check()
        whole = len(burden.scattered) + len(burden.futures)
        print(f"{done} times SIGTERM: {lost} of {whole} keys lost")
        print(f"{twice} of {len(burden.futures)} tasks did not run exactly once")
        assert lost > 0
        assert twice > 0
