"""A real scaler grows for work that a worker has been given already, long before its interval."""

from __future__ import annotations

import time

from tests.preloads.conftest import until
from tests.scaler.cluster import standing

INTERVAL = 30.0


def test_given_work_does_not_wait_for_the_interval() -> None:
    group = {
        **{"name": "big", "min": 1, "max": 3, "slots": 1, "resources": {"BIG": 1.0}},
        **{"arguments": ("--resources", "BIG=1"), "start_up": 1.0},
    }
    with standing(group, interval=INTERVAL) as cluster:
        cluster.start()
        client = cluster.lab.client()
        client.wait_for_workers(1, timeout=60)

        def seen() -> bool:
            return any(each["group"] == "big" and each["seen"] == 1 for each in cluster.records())

        until(seen, "the scaler has looked")
        time.sleep(INTERVAL / 4)  # no look is due, and one may come early
        begun = time.time()
        futures = client.map(lambda n: (time.sleep(3), n)[1], range(12), resources={"BIG": 1})

        def grown() -> float:
            return next((each["time"] for each in cluster.records() if each["to"] > 1), 0.0)

        until(grown, "the scaler grows the group", 90)
        assert grown() - begun < INTERVAL / 2
        assert sorted(client.gather(futures)) == list(range(12))
