"""What a deploy makes of groups that the scaler sizes: services, numbers, plans. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from perennial.fleet import FixedHandle
from perennial.plan import Impact, Step
from perennial.platforms.hosts.desired_state import DesiredState, request
from perennial.platforms.hosts.drift import drift
from perennial.platforms.hosts.fleet import HostsHandle
from perennial.platforms.hosts.machine_services import (
    MachineServices,
    fleets,
    from_json,
    services_by_machine,
    to_json,
)
from perennial.platforms.hosts.plan import MachineState, steps
from perennial.platforms.hosts.programs import MARK
from perennial.platforms.hosts.standing_members import chosen, counted
from perennial.scaler.settings import parse
from perennial.services import fingerprint
from tests.platforms.hosts import clusters
from tests.platforms.hosts.clusters import PLAIN, spec_of, under

SCALED: dict[str, Any] = {**PLAIN, "workers": {"cpu": {"count": 2, "scale": {"max": 8}}}}


def share_of(machine: str = "machine-b", **keys: Any) -> MachineServices:
    return services_by_machine(spec_of(SCALED, **keys))[machine]


def arranged(assigned: MachineServices, *numbers: int) -> DesiredState:
    return clusters.arranged(assigned, dict.fromkeys(assigned.scaled, numbers))


def texts(desired: DesiredState) -> dict[str, str]:
    return {file.path: file.text for file in desired.files}


def test_the_scaler_stands_beside_the_scheduler_and_a_keeper_with_the_members() -> None:
    found = services_by_machine(spec_of(SCALED))
    assert {
        name: [part.name for part in assigned.services][-1] for name, assigned in found.items()
    } == {
        "machine-a": "scaler",
        "machine-b": "keeper",
        "10-0-0-3": "keeper",
    }
    assert found["machine-a"].roles == ("scheduler", "client", "jupyter")
    assert found["machine-b"].roles == ("worker",)
    assert found["machine-b"].scaled == {"cpu": 4}
    for assigned in found.values():
        assert from_json(json.loads(json.dumps(to_json(assigned)))) == assigned


def test_without_a_scaler_nothing_of_it_is_there() -> None:
    for keys in ({"scaler": None}, {"workers": {"cpu": {"count": 2}}}):
        for assigned in services_by_machine(spec_of(SCALED, **keys)).values():
            assert assigned.scaled == {}
            assert not {"scaler", "relay", "keeper"} & {part.name for part in assigned.services}


def test_the_scaler_understands_what_it_is_told() -> None:
    *_, scaler = services_by_machine(spec_of(SCALED))["machine-a"].services
    [file] = [file for file in scaler.files if file.path.endswith(".json")]
    settings = parse(json.loads(file.text))
    assert settings.platform == "hosts"
    [group] = settings.groups
    assert group.fleet == fleets(spec_of(SCALED))["cpu"]
    assert isinstance(group.fleet, HostsHandle)
    assert group.fleet.machines == {"machine-b": 4, "10-0-0-3": 4}


def test_the_scaler_knows_of_fixed_groups_by_the_names_of_their_members() -> None:
    spec = spec_of(SCALED, workers={**SCALED["workers"], "big": {"count": 2}})
    big = fleets(spec)["big"]
    assert isinstance(big, FixedHandle)
    named = big.members
    run = {
        f"big-{machine}-{number}"
        for machine, assigned in services_by_machine(spec).items()
        for number in range(assigned.counts.get("big", 0))
    }
    assert set(named) == run
    assert len(named) == len(run) == 2
    *_, scaler = services_by_machine(spec)["machine-a"].services
    [file] = [file for file in scaler.files if file.path.endswith(".json")]
    groups = {each.group.name: each for each in parse(json.loads(file.text)).groups}
    assert groups["big"].fleet == FixedHandle(members=named)


def test_a_share_that_was_remembered_without_keepers_is_read() -> None:
    data = to_json(share_of(scaler=None))
    del data["kept"]
    assert from_json(data).scaled == {}


def test_whom_the_scaler_has_chosen_stays() -> None:
    assigned = share_of()
    assert chosen(assigned, {}, {}) == {"cpu": [0]}
    manifest = {"declared": {"cpu": 1}, "sizes": {"cpu": 3}}
    # Until now a group of a size, whatever the file's count is now.
    assert chosen(assigned, manifest, {}) == {"cpu": [0, 1, 2]}
    other = {**manifest, "declared": {"cpu": 7}}
    assert chosen(assigned, other, {}) == {"cpu": [0, 1, 2]}
    # Chosen by the scaler, any set of numbers.
    kept = {**manifest, "kept": {"cpu": 4}, "numbers": {"cpu": [1, 3]}}
    assert chosen(assigned, kept, {}) == {"cpu": [1, 3]}
    assert counted({"cpu": [1, 3], "gpu": 4}) == {"cpu": 2, "gpu": 4}
    # No longer sized by a scaler: as many as there are.
    free = share_of(scaler=None)
    assert chosen(free, kept, {}) == {"cpu": 2}


@pytest.mark.parametrize("unit", ["dask-lab-cpu@{}.service", "cpu-machine-b-{}"])
def test_where_the_keepers_file_is_gone_who_runs_stays(unit: str) -> None:
    members = {
        unit.format(2): {"state": "active"},
        unit.format(5): {"state": "activating"},
        unit.format(7): {"state": "deactivating"},
        "dask-lab-cpux@9.service": {"state": "active"},
    }
    found = {"manifest": {"kept": {"cpu": 4}, "sizes": {"cpu": 1}}, "members": members}
    assert chosen(share_of(), found["manifest"], found["members"]) == {"cpu": [2, 5]}


def test_under_systemd_no_file_says_who_runs() -> None:
    assigned = share_of()
    some, others = arranged(assigned, 1, 3), arranged(assigned, 0)
    assert texts(some) == texts(others)
    assert [*some.members] == [
        "dask-lab-cpu@1.service",
        "dask-lab-cpu@3.service",
        "dask-lab-relay.service",
        "dask-lab-keeper.service",
    ]
    target = texts(some)["/etc/systemd/system/dask-lab-cpu.target"]
    assert "Wants" not in target
    assert some.users == {"dask-lab": "/var/lib/dask-perennial/lab/scratch"}
    unit = texts(some)["/etc/systemd/system/dask-lab-keeper.service"]
    for line in (
        *("User=root", "CapabilityBoundingSet=", "ProtectSystem=strict", "WatchdogSec=120"),
        *("PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "SupplementaryGroups=dask-lab"),
    ):
        assert f"\n{line}\n" in unit
    assert "LoadCredential" not in unit
    unit = texts(some)["/etc/systemd/system/dask-lab-relay.service"]
    for line in ("User=dask-lab", "CapabilityBoundingSet=", "NoNewPrivileges=yes"):
        assert f"\n{line}\n" in unit


def test_under_supervisord_a_keeper_has_the_same_program_that_a_deploy_would_write() -> None:
    root = "/home/ada/.local/state/dask-perennial/machine-b/lab"
    found = arranged(share_of(**under("supervisord")), 1, 3)
    programs = {program.name: program.text for program in found.programs}
    text = texts(found)[f"{root}/config/kept/cpu.conf"]
    assert text.replace(MARK, "3") == programs["cpu-machine-b-3"]
    assert found.scaled_programs == {"cpu": "cpu-machine-b-"}
    assert request(found, "", 0)["kept"] == found.scaled_programs
    assert f"relay.json {root}/config/keeper.json {root}/supervisord\n" in programs["keeper"]
    assert "relay" not in programs
    assert {folder["path"] for folder in found.folders} >= {f"{root}/keeper"}


def test_other_bounds_change_no_member() -> None:
    before, after = share_of(), share_of(workers={"cpu": {"count": 2, "scale": {"max": 20}}})
    prints = {part.name: fingerprint(part) for part in before.services}
    changed = {part.name for part in after.services if prints[part.name] != fingerprint(part)}
    assert changed == {"keeper"}
    [step] = steps("machine-b", side(before), side(after))
    assert (step.action, step.resource) == ("restart", "keeper")


def side(assigned: MachineServices) -> MachineState:
    names = {"keeper": "x", **{f"cpu-machine-b-{n}": "x" for n in range(assigned.counts["cpu"])}}
    return MachineState(to_json(assigned), None, names)


def test_a_plan_names_the_group_and_not_the_members_that_it_does_not_know() -> None:
    before = share_of()
    after = share_of(workers={"cpu": {"count": 2, "threads": 2, "scale": {"max": 8}}})
    assert steps("machine-b", side(before), side(after)) == [
        Step("restart", "machine-b", "cpu", "each member changed", Impact.DRAINED)
    ]
    # A keeper comes, and whoever runs stays.
    fixed = share_of(scaler=None)
    assert [
        (step.action, step.resource) for step in steps("machine-b", side(fixed), side(before))
    ] == [
        ("create", "relay"),
        ("create", "keeper"),
    ]
    under = replace(side(fixed), init="supervisord")
    assert [(step.action, step.resource) for step in steps("machine-b", under, side(before))] == [
        ("create", "keeper")
    ]
    new = replace(before, counts={"cpu": 0})
    assert steps("machine-b", side(new), side(new)) == [
        Step(
            "update",
            "machine-b",
            "certificates",
            "they end soon, or the authority or the token changed; services that read them restart",
        )
    ]


def test_members_that_the_scaler_has_chosen_are_no_drift() -> None:
    running = {"state": "active", "pid": 5, "fingerprint": "a"}
    found: dict[str, Any] = {
        "manifest": {
            "whole": True,
            "kept": {"cpu": 4},
            "numbers": {"cpu": [1]},
            "members": {"dask-lab-keeper.service": "a"},
        },
        "files": {},
        "users": [],
        "enabled": True,
        "address": "10.0.0.9",
        "members": {"dask-lab-keeper.service": running, "dask-lab-cpu@1.service": running},
    }
    assert drift("lab", found, {"address": "10.0.0.9"}) == []
    found["members"]["dask-lab-keeper.service"] = {**running, "state": "inactive"}
    assert drift("lab", found, {}) == ["dask-lab-keeper is stopped"]
