"""What a plan says, case by case: a cluster file, a change to it, and the exact lines."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from perennial.hosts.plan import Side, Step, steps
from perennial.hosts.share import environment, shares, to_json
from perennial.services import fingerprint
from perennial.spec import loads

FILE: dict[str, Any] = {
    "name": "lab",
    "platform": "hosts",
    "environment": {"python": "/opt/dask/bin/python"},
    "workers": {"cpu": {"count": 2, "memory": "2 GiB"}, "gpu": {"count": 1}},
    "hosts": {
        "machines": [
            {"address": "ma", "roles": ["scheduler", "jupyter"]},
            {"address": "mb", "roles": [{"cpu": 2}, "gpu"]},
        ]
    },
}
LOST = "changed; running work and results are lost"
CUT = "its kernels end"


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The file with another value in one place."""
    file = copy.deepcopy(FILE)
    place = file
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = to
    return file


def side(file: dict[str, Any], machine: str, members: dict[str, str] | None = None) -> Side:
    """What a file says of a machine."""
    import yaml

    spec = loads(yaml.safe_dump(file))
    share = shares(spec).get(machine)
    if share is None:
        return Side()
    return Side(to_json(share), environment(spec, machine), members)


def planned(file: dict[str, Any], *drift: str) -> list[str]:
    """What a change of the file does to both machines."""
    found: list[Step] = []
    for machine in ("ma", "mb"):
        found += (
            steps(machine, side(FILE, machine), side(file, machine), drift)
            if side(FILE, machine) != side(file, machine) or drift
            else []
        )
    return [f"{step.machine} {step.action} {step.name}: {step.reason}" for step in found]


CASES = {
    "nothing": (FILE, []),
    "memory": (
        changed("workers", "cpu", "memory", to="3 GiB"),
        [
            "mb restart cpu-mb-0: changed; drained first",
            "mb restart cpu-mb-1: changed; drained first",
        ],
    ),
    "one group only": (
        changed("workers", "gpu", "resources", to={"GPU": 1}),
        ["mb restart gpu-mb-0: changed; drained first"],
    ),
    "scheduler": (
        changed("dask", to={"distributed.scheduler.work-stealing": False}),
        [
            f"ma restart scheduler: {LOST}",
            f"ma restart jupyter: changed; {CUT}",
            "mb restart cpu-mb-0: changed; drained first",
            "mb restart cpu-mb-1: changed; drained first",
            "mb restart gpu-mb-0: changed; drained first",
        ],
    ),
    "no jupyter": (
        {
            **changed("hosts", "machines", 0, "roles", to=["scheduler"]),
            "jupyter": None,
        },
        None,
    ),
    "reached otherwise": (
        changed("hosts", "user", to="ops"),
        [
            "ma change connection: the user of its SSH is ops now",
            "mb change connection: the user of its SSH is ops now",
        ],
    ),
    "another service manager": (
        changed("hosts", "init", to="supervisord"),
        [
            "ma change init: its services run under supervisord",
            "mb change init: its services run under supervisord",
        ],
    ),
    "max_unavailable": (
        changed("hosts", "max_unavailable", to=3),
        [
            "ma change ma: other max unavailable; nothing restarts",
            "mb change mb: other max unavailable; nothing restarts",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    file, expected = CASES[name]
    if expected is None:
        assert f"ma stop jupyter: no longer asked for; {CUT}" in planned(file)
    else:
        assert planned(file) == expected


def test_another_python_restarts_what_runs_in_it() -> None:
    said = planned(changed("environment", "python", to="/opt/new/bin/python"))
    assert "ma make environment: uses /opt/new/bin/python instead" in said
    assert f"ma restart scheduler: {LOST}" in said


def test_new_and_gone() -> None:
    machine = side(FILE, "mb")
    assert [step.reason for step in steps("mb", Side(), machine)] == [
        "new machine: 2 of cpu, 1 of gpu",
        "uses /opt/dask/bin/python",
    ]
    [gone] = steps("mb", machine, Side())
    assert (gone.action, gone.name) == ("remove", "mb")
    assert "drained first" in gone.reason
    assert steps("mb", Side(), Side()) == []


def test_drift() -> None:
    assert planned(FILE, "a file was edited") == [
        "ma repair ma: a file was edited",
        "mb repair mb: a file was edited",
    ]


def test_what_no_share_says_is_certificates() -> None:
    [step] = steps("ma", side(FILE, "ma"), side(FILE, "ma"))
    assert (step.action, step.name) == ("renew", "certificates")


def test_a_size_that_was_scaled_stays() -> None:
    from perennial.hosts.share import from_json, members

    share = from_json(side(FILE, "mb").share or {})
    four = {name: fingerprint(one) for name, one in members(share, {"cpu": 4}).items()}
    more = changed("workers", "gpu", "threads", to=2)
    found = steps("mb", side(FILE, "mb", four), side(more, "mb"))
    assert [step.name for step in found] == ["gpu-mb-0"]
