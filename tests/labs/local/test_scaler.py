"""A real cluster whose group belongs to the scaler: `up`, `plan`, `status`, `restart`, `down`."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perennial.errors import Busy, FleetMissing
from perennial.fleet import Fleet, opened, read
from perennial.lock import exclusive
from perennial.observation import Observation
from tests.dask_processes import workers_of
from tests.homes import Home, make_home, wait_until
from tests.ports import free_ports
from tests.scaler.burden import Burden, names

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(600)]

GROUP = {"memory": "512 MiB", "scale": {"min": 1, "max": 6}, "drain": "60 s"}


def scaled(home: Home, **scaler: Any) -> Home:
    """Let the group cpu belong to a scaler."""
    [port] = free_ports(1)
    home.spec["workers"] = {"cpu": dict(GROUP), "fix": {"count": 1, "memory": "512 MiB"}}
    home.spec["scaler"] = {"interval": "1 s", "port": port, **scaler}
    home.write()
    return home


@pytest.fixture(scope="module")
def standing() -> Iterator[Home]:
    """A cluster whose scaler only looks: the tests themselves speak to the fleet."""
    for home in make_home():
        scaled(home, dry_run=True).up()
        yield home
        home.run("down", "--force")
        assert home.processes() == []


def told(home: Home) -> dict[str, Any]:
    """What the scaler was told."""
    found: dict[str, Any] = json.loads((home.state / "config" / "scaler.json").read_text())
    return found


def fleet_of(home: Home) -> Fleet:
    [group] = [group for group in told(home)["groups"] if group["name"] == "cpu"]
    return opened("local", read("local", group["fleet"]))


def units(home: Home) -> set[str]:
    return {path.stem for path in (home.state / "conf.d").glob("cpu-*.conf")}


def settled(home: Home, *names: str) -> Observation:
    """Wait until exactly these members are there and have registered."""

    def look() -> Observation | None:
        seen = fleet_of(home).observe()
        there = {member.id for member in seen.members if member.state == "running"}
        return seen if seen.settled and there == set(names) else None

    found: Observation = wait_until(look, 120)
    wait_until(lambda: home.workers() == {*names, "fix-0"}, 120)
    return found


def pids(home: Home, *names: str) -> dict[str, int]:
    found = {name: home.pid(name) for name in ("scheduler", "fix-0", *names)}
    assert all(found.values()), found
    return found


def choose(home: Home, *names: str) -> None:
    """Bring the group to exactly these members, as a scaler would."""
    fleet = fleet_of(home)
    if not units(home) >= set(names):
        fleet.resize(max(int(name.rpartition("-")[2]) for name in names) + 1)
    leaving = [member for member in fleet.observe().members if member.id not in names]
    assert fleet.resize(len(names), leaving) == len(names)
    settled(home, *names)


def slowly() -> Callable[[int], int]:
    """Make a task of half a second, which the workers need not import."""

    def slow(number: int) -> int:
        time.sleep(0.5)
        return number

    return slow


def health(home: Home) -> dict[str, Any]:
    url = f"http://127.0.0.1:{home.spec['scaler']['port']}/health"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)
    return found


def test_the_scaler_stands_beside_the_others(standing: Home) -> None:
    services = json.loads(standing.run("status", "--json"))["services"]
    found = {row["service"]: row["state"] for row in services}
    assert set(found) == {"health", "scheduler", "cpu-0", "fix-0", "scaler"}
    assert found["scaler"] in ("STARTING", "RUNNING")
    groups = {group["name"]: group["fleet"] for group in told(standing)["groups"]}
    seen = opened("local", read("local", groups["fix"])).observe()
    assert (seen.least, seen.desired, seen.most) == (1, 1, 1)
    wait_until(lambda: health(standing).get("healthy") is True)
    assert "nothing to change" in standing.up()


def test_up_plan_status_and_restart_keep_who_the_scaler_chose(standing: Home) -> None:
    choose(standing, "cpu-1", "cpu-2")
    before = pids(standing, "cpu-1", "cpu-2", "scaler")
    assert "nothing to change" in standing.run("plan", "--file", str(standing.file))
    assert "3 workers: nothing to change" in standing.up()
    assert pids(standing, *before) == before
    services = json.loads(standing.run("status", "--json"))
    assert {row["service"] for row in services["services"]} == {
        *("health", "scheduler", "cpu-1", "cpu-2", "fix-0", "scaler"),
    }
    assert services["sizes"] == {"cpu": 2, "fix": 1}
    assert "2 members" in standing.run("restart", "cpu")
    settled(standing, "cpu-1", "cpu-2")
    assert pids(standing, "cpu-1")["cpu-1"] != before["cpu-1"]


def test_other_bounds_restart_the_scaler_alone(standing: Home) -> None:
    choose(standing, "cpu-1", "cpu-2")
    before = pids(standing, "cpu-1", "cpu-2", "scaler")
    scale = standing.spec["workers"]["cpu"]["scale"]
    standing.spec["workers"]["cpu"]["scale"] = {**scale, "min": 2, "max": 9, "idle": "1 min"}
    standing.write()
    plan = standing.run("plan", "--file", str(standing.file))
    assert [line.split()[1:3] for line in plan.splitlines() if line.startswith("  ")] == [
        ["restart", "scaler"]
    ]
    standing.up()
    after = pids(standing, "cpu-1", "cpu-2", "scaler")
    assert {name for name in before if before[name] != after[name]} == {"scaler"}
    assert told(standing)["groups"][0]["max"] == 9
    standing.spec["workers"]["cpu"]["scale"] = scale
    standing.write()
    standing.up()


def test_a_changed_group_replaces_exactly_its_members_drained(standing: Home) -> None:
    choose(standing, "cpu-1", "cpu-2")
    before = pids(standing, "cpu-1", "cpu-2")
    standing.spec["workers"]["cpu"]["threads"] = 2
    standing.write()
    with standing.client() as client:
        scattered = client.scatter(list(range(20)))
        standing.up()
        assert client.gather(scattered) == list(range(20))
        threads = {w["name"]: w["nthreads"] for w in workers_of(client).values()}
    assert threads == {"cpu-1": 2, "cpu-2": 2, "fix-0": 1}
    assert pids(standing)["fix-0"] == before["fix-0"]
    assert told(standing)["groups"][0]["slots"] == 2
    # Whoever comes now is of the new kind, and no reason for a change.
    choose(standing, "cpu-0", "cpu-1", "cpu-2")
    assert "nothing to change" in standing.run("plan", "--file", str(standing.file))
    del standing.spec["workers"]["cpu"]["threads"]
    standing.write()
    standing.up()


def test_supervisord_dies_and_the_same_members_are_there(standing: Home) -> None:
    choose(standing, "cpu-0", "cpu-2")
    import psutil

    before = pids(standing, "cpu-0", "cpu-2", "scaler")
    psutil.Process(standing.pid("supervisord")).kill()
    wait_until(lambda: not psutil.pid_exists(standing.pid("supervisord")))
    with pytest.raises(FleetMissing, match="perennial up"):
        fleet_of(standing).observe()
    assert "adopt" in standing.run("plan", "--file", str(standing.file))
    standing.up()
    assert pids(standing, *before) == before
    # One that was adopted leaves as well as any other.
    choose(standing, "cpu-0")
    assert standing.pid("cpu-2") == 0


def test_while_somebody_changes_the_cluster_the_fleet_is_busy(standing: Home) -> None:
    with exclusive(standing.state / "lock", lambda _text: None):
        with pytest.raises(Busy, match="cpu"):
            fleet_of(standing).resize(2)
        assert fleet_of(standing).observe().desired == len(units(standing))


def test_who_leaves_under_load_takes_nothing_along(standing: Home) -> None:
    choose(standing, "cpu-0", "cpu-1", "cpu-2")
    with standing.client() as client:
        scattered = client.scatter(list(range(30)))
        persisted = client.map(pow, range(30), [2] * 30, pure=False)
        client.gather(persisted)
        running = client.map(slowly(), range(12), pure=False)
        members = fleet_of(standing).observe().members
        assert fleet_of(standing).resize(1, members[1:]) == 1
        assert client.gather(running) == list(range(12))
        settled(standing, "cpu-0")
        assert client.gather(scattered) == list(range(30))
        assert client.gather(persisted) == [n**2 for n in range(30)]
    assert "nothing to change" in standing.run("plan", "--file", str(standing.file))


def test_without_scale_the_members_stay_and_the_scaler_goes(standing: Home) -> None:
    choose(standing, "cpu-0", "cpu-2")
    before = pids(standing, "cpu-0", "cpu-2")
    standing.spec["workers"]["cpu"] = {**GROUP, "scale": None}
    standing.write()
    # One that a scaler was draining when it went is brought back.
    with standing.client() as client:
        client.retire_workers(names=["cpu-2"], close_workers=False, remove=False)
    standing.up()
    wait_until(lambda: standing.workers() == {"cpu-0", "cpu-2", "fix-0"}, 120)
    after = pids(standing, "cpu-0", "cpu-2")
    assert {name for name in before if before[name] != after[name]} == {"cpu-2"}
    assert standing.pid("scaler") == 0
    assert not (standing.state / "conf.d" / "scaler.conf").exists()
    with standing.client() as client:
        status = {w["name"]: w["status"] for w in workers_of(client).values()}
    assert set(status.values()) == {"running"}
    # The size is `scale`'s now; whoever is there stays.
    standing.run("scale", "cpu=3")
    assert units(standing) == {"cpu-0", "cpu-1", "cpu-2"}
    standing.spec["workers"]["cpu"] = dict(GROUP)
    standing.write()
    standing.up()
    settled(standing, "cpu-0", "cpu-1", "cpu-2")


def test_it_grows_with_work_shrinks_without_and_is_taken_down_in_the_middle(home: Home) -> None:
    scaled(home).up()
    assert units(home) == {"cpu-0"}
    with home.client() as client:
        futures = client.map(slowly(), range(80), pure=False)
        wait_until(lambda: len(units(home)) > 1, 120)
        assert client.gather(futures) == list(range(80))
    wait_until(lambda: len(units(home)) == 1, 200)
    wait_until(lambda: len(fleet_of(home).observe().members) == 1, 120)
    assert "nothing to change" in home.run("plan", "--file", str(home.file))
    with home.client() as client:
        futures = client.map(slowly(), range(200), pure=False)
        wait_until(lambda: len(units(home)) > 1, 120)
        home.run("down", "--force")
    assert home.processes() == []
    assert not (home.state / "conf.d").exists()
    # The first size counts again, and nothing of the old one is in the way.
    home.up()
    assert units(home) >= {"cpu-0"}
    home.run("down", "--force", "--purge")
    assert not home.state.exists()


@pytest.mark.parametrize(
    "drains",
    [20, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_sizes_up_and_down_under_load_with_the_scaler_killed(home: Home, drains: int) -> None:
    """Drains by the service itself, which supervisord brings back: nothing lost or done twice."""
    chance, done, kills = random.Random(5), 0, 0
    scaled(home).up()
    (home.root / "runs").mkdir()
    with home.client() as client:

        def reach(size: int) -> None:
            home.run("scale", f"cpu={size}")

            def look() -> bool:
                seen = fleet_of(home).observe()
                return seen.settled and len(seen.members) == seen.desired == size

            wait_until(look, 120)
            wait_until(lambda: len(names(client)) == size + 1, 120)

        burden = Burden(client, str(home.root / "runs"))
        while done < drains:
            reach(6)
            burden.more(40)
            burden.scatter()
            burden.name_workers()
            if done % 2:
                burden.shuffle()
            size = chance.choice((2, 3))
            home.run("scale", f"cpu={size}")
            for _ in range((done + 6 - size) // 10 - done // 10):
                time.sleep(chance.uniform(0.2, 2.5))
                before = home.pid("scaler")
                os.kill(before, signal.SIGKILL)
                kills += 1
                wait_until(lambda pid=before: home.pid("scaler") not in (0, pid), 60)
            burden.more(15)
            reach(size)
            done += 6 - size
        assert kills >= drains // 10
        assert burden.check() == (0, 0)
    scheduler = (home.state / "logs" / "scheduler.log").read_text()
    assert "restarted due to stimulus" not in scheduler
    home.run("down", "--force")
    assert home.processes() == []
