"""The scheduler's page of workers, which answers while they work."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from distributed import Client, LocalCluster

from perennial.pages import ROSTER
from perennial.preloads import roster
from perennial.supervision.dashboard import Dashboard
from tests.homes import wait_until


def page(port: int, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_it_answers_while_dasks_own_page_does_not() -> None:
    from time import sleep

    assert roster.PATH == ROSTER
    options = {"dashboard_address": "127.0.0.1:0", "protocol": "tcp"}
    with (
        LocalCluster(2, threads_per_worker=1, host="127.0.0.1", **options) as cluster,
        Client(cluster) as client,
    ):
        port = cluster.scheduler.http_server.port
        assert page(port, roster.PATH) == 404
        assert len(Dashboard(port).worker_names()) == 2
        roster.dask_setup(cluster.scheduler)
        work = client.map(sleep, [0.2] * 200, pure=False)
        wait_until(lambda: page(port, "/json/identity.json") == 500)
        names = {str(worker.name) for worker in cluster.scheduler.workers.values()}
        assert {each["name"] for each in page(port, roster.PATH)["workers"].values()} == names
        assert Dashboard(port).worker_names() == names
        assert Dashboard(port).parked() == frozenset()
        assert Dashboard(port).actors() == {}
        client.publish_dataset(client.submit(abs, -1), name="kept")  # a client, in Dask's words
        assert page(port, "/json/counts.json")["clients"] == 3
        counts = Dashboard(port).counts()
        assert counts is not None
        assert counts.clients == page(port, roster.PATH)["clients"] == 1
        client.cancel(work)
        address = client.retire_workers(
            list(client.nthreads())[:1], close_workers=False, remove=False
        )
        [parked] = {str(worker["name"]) for worker in address.values()}
        wait_until(lambda: Dashboard(port).parked() == {parked})
