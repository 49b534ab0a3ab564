"""What a plan says, case by case: a cluster file, a change to it, and the exact lines."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from perennial.plan import Impact, Step
from perennial.platforms.hosts.machine_services import (
    environment_spec,
    services_by_machine,
    to_json,
)
from perennial.platforms.hosts.plan import MachineState, steps
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
LOSES = "ALL RUNNING WORK AND RESULTS ARE LOST"
LOST = f"changed; {LOSES}"
AGAIN = "all services there are drained, stopped and started"
CUT = "its kernels end"


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The file with another value in one place."""
    file = copy.deepcopy(FILE)
    place = file
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = to
    return file


def side(file: dict[str, Any], machine: str, members: dict[str, str] | None = None) -> MachineState:
    """What a file says of a machine."""
    import yaml

    spec = loads(yaml.safe_dump(file))
    assigned = services_by_machine(spec).get(machine)
    if assigned is None:
        return MachineState()
    return MachineState(to_json(assigned), environment_spec(spec, assigned), members)


def planned(file: dict[str, Any], *drift: str) -> list[str]:
    """What a change of the file does to both machines."""
    found: list[Step] = []
    for machine in ("ma", "mb"):
        found += (
            steps(machine, side(FILE, machine), side(file, machine), drift)
            if side(FILE, machine) != side(file, machine) or drift
            else []
        )
    return [
        f"{step.target} {step.action} {step.resource}: "
        + "; ".join(filter(None, (step.reason, step.impact)))
        for step in found
    ]


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
            "ma update connection: the user of its SSH is ops now",
            "mb update connection: the user of its SSH is ops now",
        ],
    ),
    "another service manager": (
        changed("hosts", "init", to="supervisord"),
        [
            f"ma update init: its services run under supervisord; {AGAIN}; {LOSES}",
            f"mb update init: its services run under supervisord; {AGAIN}",
        ],
    ),
    "max_unavailable": (
        changed("hosts", "max_unavailable", to=3),
        [
            "ma update ma: max unavailable changed; nothing restarts",
            "mb update mb: max unavailable changed; nothing restarts",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    file, expected = CASES[name]
    if expected is None:
        assert f"ma delete jupyter: no longer in the cluster file; {CUT}" in planned(file)
    else:
        assert planned(file) == expected


def manager(before: str | None, after: str | None, found: str | None) -> list[tuple[str, bool]]:
    """What a plan says when the scheduler's machine is to have another service manager."""
    old, new = (
        side(changed("hosts", "init", to=init) if init else FILE, "ma") for init in (before, after)
    )
    said = steps("ma", replace(old, init=found), new)
    return [
        (step.reason, step.impact is Impact.LOSES_WORK) for step in said if step.resource == "init"
    ]


def test_no_service_manager_named_is_a_change_as_well() -> None:
    under = "its services run under systemd"
    [(reason, loses)] = manager("supervisord", None, "supervisord")
    assert reason.startswith(f"{under}; {AGAIN}")
    assert loses
    assert manager("supervisord", None, None)[0][1]
    assert manager("supervisord", "systemd", "supervisord") == [(f"{under}; {AGAIN}", True)]


def test_no_restart_is_hidden_where_the_file_names_no_other_service_manager() -> None:
    """Also where another one was found than the file means."""
    old = replace(side(FILE, "ma"), init="supervisord")
    new = side(changed("dask", to={"distributed.scheduler.work-stealing": False}), "ma")
    restarts = {step.resource for step in steps("ma", old, new) if step.action == "restart"}
    assert {"scheduler", "jupyter"} <= restarts


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (None, "systemd", None),
        ("systemd", None, "systemd"),
        (None, "supervisord", "supervisord"),
    ],
)
def test_the_same_service_manager_restarts_nothing(
    before: str | None, after: str | None, found: str | None
) -> None:
    stays = f"its services stay under {found or after}; nothing restarts"
    assert manager(before, after, found) == [(stays, False)]


def test_another_interface_alone_is_no_change_without_a_cost() -> None:
    before = changed("hosts", "machines", 0, "internal", to="10.0.0.1")
    after = copy.deepcopy(before)
    for machine in after["hosts"]["machines"]:
        machine["interface"] = "eth1"
    said = (
        "the interface that its services listen on is eth1 now; if that is another address, all"
        " services there restart"
    )
    for machine, cost in (("ma", Impact.LOSES_WORK), ("mb", Impact.NONE)):
        found = steps(machine, side(before, machine), side(after, machine))
        assert found == [Step("update", machine, "interface", said, cost)]


def test_a_name_that_a_machine_loses_makes_its_certificates_anew() -> None:
    before = changed("hosts", "machines", 1, "internal", to="10.0.0.2")
    found = steps("mb", side(before, "mb"), side(FILE, "mb"))
    assert [(step.resource, step.reason) for step in found] == [
        (
            "internal",
            "its address for the other machines is the default now; if that is another address,"
            " all services there restart",
        ),
        ("certificates", "no longer for 10.0.0.2; services that read them restart"),
    ]


def test_a_further_certificate_restarts_nothing_by_itself() -> None:
    now = side(FILE, "ma")
    assert now.assigned is not None
    before = replace(now, assigned={**now.assigned, "roles": ["scheduler", "jupyter"]})
    assert steps("ma", before, now) == [Step("create", "ma", "certificates", "now for client")]


def test_what_reads_the_token_alone_costs_no_work_without_tls() -> None:
    now = side(changed("security", "tls", to=False), "ma")
    [step] = steps("ma", now, now)
    assert step.resource == "certificates"
    assert step.impact is Impact.NONE


def test_another_python_restarts_what_runs_in_it() -> None:
    said = planned(changed("environment", "python", to="/opt/new/bin/python"))
    assert "ma update environment: uses /opt/new/bin/python instead" in said
    assert f"ma restart scheduler: {LOST}" in said


def test_new_and_gone() -> None:
    machine = side(FILE, "mb")
    assert [step.reason for step in steps("mb", MachineState(), machine)] == [
        "new machine: 2 of cpu, 1 of gpu",
        "uses /opt/dask/bin/python",
    ]
    [gone] = steps("mb", machine, MachineState())
    assert (gone.action, gone.resource, gone.impact) == ("delete", "mb", Impact.DRAINED)
    [gone] = steps("ma", side(FILE, "ma"), MachineState())
    assert gone.impact is Impact.LOSES_WORK  # the scheduler stands there
    assert steps("mb", MachineState(), MachineState()) == []


def test_drift() -> None:
    assert planned(FILE, "a file was edited") == [
        "ma update ma: a file was edited",
        "mb update mb: a file was edited",
    ]


def test_what_no_share_says_is_certificates() -> None:
    [step] = steps("ma", side(FILE, "ma"), side(FILE, "ma"))
    assert (step.action, step.resource) == ("update", "certificates")


def test_a_size_that_was_scaled_stays() -> None:
    from perennial.platforms.hosts.machine_services import from_json, members

    assigned = from_json(side(FILE, "mb").assigned or {})
    four = {name: fingerprint(one) for name, one in members(assigned, {"cpu": 4}).items()}
    more = changed("workers", "gpu", "threads", to=2)
    found = steps("mb", side(FILE, "mb", four), side(more, "mb"))
    assert [step.resource for step in found] == ["gpu-mb-0"]
