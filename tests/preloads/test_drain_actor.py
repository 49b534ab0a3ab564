"""A worker with an actor that is told to stop: nobody can take the actor."""

from __future__ import annotations

import gc
import subprocess
import time
from typing import Any

import pytest

from tests.preloads.conftest import Lab, until

pytestmark = pytest.mark.lab


def made_here() -> Any:
    """An actor's class; a local one travels with its code."""

    class Counter:
        count = 0

        def more(self) -> int:
            self.count += 1
            return self.count

    return Counter


def test_it_leaves_at_its_deadline_and_names_the_actor(lab: Lab) -> None:
    lab.scheduler()
    mark = lab.folder / "ready"
    environment = {"DASK_PERENNIAL__DRAIN": "8 s", "PERENNIAL_READY": str(mark)}
    process = lab.worker("w0", **environment)
    client = lab.client(1)
    with client.as_current():  # an actor looks for its client
        actor = client.submit(made_here(), actor=True).result(timeout=30)
    lab.worker("w1")
    client.wait_for_workers(2, timeout=60)
    data = client.scatter(b"x", workers=["w0"], hash=False)
    begun = time.monotonic()
    process.terminate()
    assert actor.more().result(timeout=60) == 1  # until then it goes on
    assert process.wait(90) == 0
    assert time.monotonic() - begun >= 8
    assert "abandons 1 actor (Counter-" in lab.log("w0")
    assert mark.with_name("ready.abandoned").read_text().startswith("1 actor (Counter-")
    assert data.result(timeout=5) == b"x"


def test_it_leaves_once_the_actor_is_given_back(lab: Lab) -> None:
    lab.scheduler()
    process = lab.worker("w0")
    client = lab.client(1)
    future = client.submit(made_here(), actor=True)
    with client.as_current():
        actor = future.result(timeout=30)
    lab.worker("w1")
    client.wait_for_workers(2, timeout=60)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    assert actor.more().result(timeout=60) == 1
    del actor, future
    gc.collect()  # the client gives back what nobody refers to, cycles included
    assert process.wait(90) == 0
    until(lambda: "Drained w0 at" in lab.log("w0"), "it has drained")
