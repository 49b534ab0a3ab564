"""What became of a machine's part of a cluster, from what the machine reports."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from perennial.hosts.deploy import drift

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
