"""`perennial restart` of members that nobody can empty: it asks, and says what was abandoned."""

from __future__ import annotations

from typing import Any

import pytest

from tests.homes import Home, wait_until

pytestmark = pytest.mark.lab


def functions() -> Any:
    """What workers run; local functions travel with their code."""

    class Counter:
        count = 0

    def long(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    return Counter, long


def plan_of_a_change(home: Home) -> str:
    """What `up` would do to members of another drain."""
    group = home.spec["workers"]["cpu"]
    home.spec["workers"]["cpu"] = {**group, "drain": "4 s"}
    home.write()
    planned = home.run("plan", "--file", str(home.file))
    home.spec["workers"]["cpu"] = group
    home.write()
    return planned


SMALLER = ("scale", "cpu=1")


@pytest.mark.timeout(900)
def test_restart_asks_about_actors_and_says_what_it_abandoned(home: Home) -> None:
    counter, long = functions()
    home.spec["workers"]["cpu"] |= {"count": 2, "drain": "3 s", "threads": 1}
    home.write()
    home.up()
    with home.client() as client:
        client.wait_for_workers(2, timeout=60)
        with client.as_current():
            actor = client.submit(counter, actor=True, workers=["cpu-0"]).result(timeout=60)
        before = home.pid("cpu-0")
        for word in ("cpu-0", "cpu"):
            asked = home.run("restart", word, code=1)
            assert "actors are lost with their member, as nobody can take them: cpu-0 (1)" in asked
        assert home.pid("cpu-0") == before
        planned = plan_of_a_change(home)
        assert "cpu-0        changed; 1 actor cannot move and will end; drained first\n" in planned
        assert "cpu-1        changed; drained first\n" in planned
        said = home.run("restart", "cpu-0", "--force")
        assert "lab: cpu-0 abandoned 1 actor (Counter-" in said
        assert home.pid("cpu-0") != before
        del actor
        future = client.submit(long, 120, key="long", workers=["cpu-1"], allow_other_workers=True)
        wait_until(lambda: any(client.processing().values()))
        said = home.run("restart", "cpu-1")  # nothing to ask: the drain has its time
        assert "lab: cpu-1 abandoned 1 task (long)" in said
        future.cancel()
        # So do `up` and `scale`, in the same words beside what they say at their end.
        home.spec["workers"]["cpu"]["drain"] = "4 s"
        home.write()
        for number, words in enumerate((("up", "--yes", "--file", str(home.file)), SMALLER)):
            key = f"again-{number}"
            again = {"workers": ["cpu-1"], "allow_other_workers": True}
            future = client.submit(long, 120, key=key, **again)
            wait_until(lambda key=key: [key] in map(list, client.processing().values()))
            said = home.run_apart(*words)
            assert f"lab: cpu-1 abandoned 1 task ({key})\n" in said
            future.cancel()
