"""What a deploy asks of a machine, and what became of its part of a cluster."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from perennial.files import write_json
from perennial.hosts import deploy
from perennial.hosts.agent import manifest, store, systemd
from perennial.hosts.arrange import Arrangement, Placed
from perennial.hosts.deploy import drift
from perennial.hosts.share import shares
from tests.hosts.clusters import spec_of

UNIT = "dask-lab-cpu@0.service"
FILE = "/etc/dask-perennial/lab/cpu.yaml"
FOUND: dict[str, Any] = {
    "manifest": {
        "whole": True,
        "expected": {FILE: ["digest", 0o644, None]},
        "members": {UNIT: "mark"},
        "users": ["dask-lab"],
    },
    "users": ["dask-lab"],
    "files": {FILE: ["digest", 0o644, None]},
    "members": {UNIT: {"state": "active", "pid": 7, "fingerprint": "mark", "restarts": 0}},
    "enabled": True,
    "address": "10.0.0.9",
}
OUTCOME = {"address": "10.0.0.9"}


def test_as_deployed() -> None:
    assert drift("lab", FOUND, OUTCOME) == []


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (("manifest",), {}, "nothing of lab is there"),
        (("manifest", "whole"), False, "a deploy was cut off"),
        (("files",), {}, f"{FILE} is missing"),
        (("files", FILE, 0), "other", f"{FILE} was edited"),
        (("files", FILE, 1), 0o666, f"{FILE} has another owner or mode"),
        (("files", FILE, 2), "bob", f"{FILE} has another owner or mode"),
        (("members",), {}, "dask-lab-cpu@0 is stopped"),
        (("members", UNIT, "state"), "inactive", "dask-lab-cpu@0 is stopped"),
        (("members", UNIT, "state"), "failed", "dask-lab-cpu@0 is failed"),
        (("members", UNIT, "fingerprint"), "old", "dask-lab-cpu@0 runs with other settings"),
        (("enabled",), False, "lab is not started at boot"),
        (("address",), "10.0.0.7", "its address is 10.0.0.7, and was 10.0.0.9"),
    ],
)
def test_each_difference_is_one_line(place: tuple[Any, ...], value: Any, line: str) -> None:
    found = copy.deepcopy(FOUND)
    at: Any = found
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert drift("lab", found, OUTCOME) == [line]


def test_a_service_that_waits_for_its_scheduler_is_no_drift() -> None:
    found = copy.deepcopy(FOUND)
    found["members"][UNIT] |= {"state": "activating", "fingerprint": None}
    assert drift("lab", found, OUTCOME) == []


class Asked:
    """An agent that only remembers what it was asked."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def ask(self, name: str, **_: Any) -> None:
        self.done.append(name)


@pytest.mark.parametrize(("known", "reloads"), [({"whole": True}, False), ({"whole": False}, True)])
def test_units_of_a_deploy_that_was_cut_off_are_read(known: dict[str, Any], reloads: bool) -> None:
    file = Placed("/etc/systemd/system/dask-lab-scheduler.service", "[Unit]\n")
    wanted = Arrangement("systemd", (file,), (), {}, {})
    found = {"manifest": known, "files": {file.path: file.state}}
    agent: Any = Asked()
    deploy._put(agent, shares(spec_of())["machine-b"], wanted, found, ())
    assert agent.done == ["begin", *["systemd_reload"] * reloads]


@pytest.mark.parametrize("again", [True, False])
def test_environments_and_the_lock_outlast_a_switch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, again: bool
) -> None:
    monkeypatch.setattr(manifest, "STATE", tmp_path / "state")
    lock = tmp_path / "lab.lock"
    monkeypatch.setattr(manifest, "lock", lambda _: lock)
    monkeypatch.setattr(systemd, "take_down", lambda *_: None)
    monkeypatch.setattr(systemd, "reload", lambda: None)
    root = manifest.STATE / "lab"
    for folder in (root / "env-1" / "bin", root / "scratch"):
        folder.mkdir(parents=True)
    lock.touch()
    write_json(manifest.path("lab"), {"init": "systemd", "whole": True})
    assert store.remove("lab", print, again=again) == []
    left = [path.name for path in root.iterdir()] if root.exists() else []
    assert left == ["env-1"] * again
    assert lock.exists() == again
