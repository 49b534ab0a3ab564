"""What shall stand on a machine, and what is to be done to get there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import PerennialError
from perennial.platforms.hosts.desired_state import (
    DesiredState,
    Init,
    desired_state,
    request,
    steps,
)
from perennial.platforms.hosts.share import Share, shares
from perennial.platforms.hosts.sizes import spread
from tests.platforms.hosts.clusters import PLAIN, spec_of

SECRETS = {"/etc/dask-perennial/lab/tls/ca.pem": "pem"}


def share_of(machine: str, **keys: Any) -> Share:
    return shares(spec_of(PLAIN, **keys))[machine]


def arranged(share: Share, init: Init = "systemd", **sizes: int) -> DesiredState:
    parts = [part.at("10.0.0.9") for part in share.services]
    return desired_state(share.cluster, init, parts, {**share.counts, **sizes}, SECRETS)


def running(wanted: DesiredState, **changes: str | None) -> dict[str, dict[str, Any]]:
    """What a machine would report on which all of it runs, but for some fingerprints."""
    return {
        unit: {
            "state": "active",
            "pid": 100 + number,
            "fingerprint": changes.get(member.name.replace("-", "_"), member.fingerprint),
        }
        for number, (unit, member) in enumerate(wanted.members.items())
    }


def test_systemd_has_a_template_for_each_group_and_its_members() -> None:
    wanted = arranged(share_of("machine-b"), cpu=2)
    assert {unit: member.name for unit, member in wanted.members.items()} == {
        "dask-lab-cpu@0.service": "cpu-machine-b-0",
        "dask-lab-cpu@1.service": "cpu-machine-b-1",
    }
    texts = {file.path: file.text for file in wanted.files}
    unit = texts["/etc/systemd/system/dask-lab-cpu@.service"]
    fingerprint = wanted.members["dask-lab-cpu@0.service"].fingerprint
    assert f"PERENNIAL_FINGERPRINT={fingerprint}" in unit
    assert '"--name" "cpu-machine-b-%i"' in unit or "--name cpu-machine-b-%i" in unit
    assert "10.0.0.9" in unit
    assert "\ue001" not in "".join(texts.values())


def test_secrets_are_for_their_owner_alone() -> None:
    for init in ("systemd", "supervisord"):
        wanted = arranged(share_of("machine-a"), init)  # type: ignore[arg-type]
        [secret] = [file for file in wanted.files if file.path in SECRETS]
        assert secret.mode == 0o600
        assert secret.owner == (None if init == "systemd" else "dask-lab")


def test_a_size_changes_no_unit_but_the_groups_target() -> None:
    small, large = (arranged(share_of("machine-b"), cpu=size) for size in (1, 5))
    before = {file.path: file.text for file in small.files}
    changed = {file.path for file in large.files if before.get(file.path) != file.text}
    assert changed == {"/etc/systemd/system/dask-lab-cpu.target"}
    assert steps(large, running(small)).restart == ()


def test_supervisord_has_a_program_for_each_member_and_nothing_of_roots() -> None:
    wanted = arranged(share_of("machine-b"), "supervisord", cpu=2)
    assert list(wanted.members) == ["cpu-machine-b-0", "cpu-machine-b-1"]
    said = request(wanted, "conf", 0)
    assert [program["name"] for program in said["programs"]] == ["health", *wanted.members]
    assert said["dashboard"] is None
    assert wanted.units == ("dask-lab-supervisord.service",)
    assert list(wanted.users) == ["dask-lab"]


def test_nothing_is_to_be_done_where_all_runs() -> None:
    wanted = arranged(share_of("machine-a"))
    done = steps(wanted, running(wanted))
    assert (done.start, done.restart, done.stop) == ((), (), ())


def test_only_what_changed_restarts() -> None:
    wanted = arranged(share_of("machine-b"), cpu=3)
    done = steps(wanted, running(wanted, cpu_machine_b_1="other"))
    assert done.restart == ("dask-lab-cpu@1.service",)
    assert (done.start, done.stop) == ((), ())


def test_who_is_too_many_stops_and_who_is_missing_starts() -> None:
    wanted = arranged(share_of("machine-b"), cpu=2)
    found = running(arranged(share_of("machine-b"), cpu=4))
    del found["dask-lab-cpu@0.service"]
    done = steps(wanted, found)
    assert done.start == ("dask-lab-cpu@0.service",)
    assert done.stop == ("dask-lab-cpu@2.service", "dask-lab-cpu@3.service")


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_what_is_not_up_is_started(state: str) -> None:
    wanted = arranged(share_of("machine-b"), cpu=1)
    pid = 7 if state == "activating" else 0
    found = {"dask-lab-cpu@0.service": {"state": state, "pid": pid, "fingerprint": None}}
    assert steps(wanted, found).start == ("dask-lab-cpu@0.service",)


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 20), min_size=1),
    st.integers(0, 100),
)
def test_a_size_is_spread_evenly_with_few_changes(before: dict[str, int], size: int) -> None:
    after = spread(before, size)
    assert sum(after.values()) == size
    assert list(after) == list(before)
    grown = [name for name in before if after[name] > before[name]]
    shrunk = [name for name in before if after[name] < before[name]]
    assert not (grown and shrunk)
    # Whoever got one more has at most one more than anybody who did not.
    if grown:
        assert max(after[name] for name in grown) <= min(after.values()) + 1
    if shrunk:
        assert min(after[name] for name in shrunk) >= max(after.values()) - 1


def test_no_machine_can_take_a_member() -> None:
    with pytest.raises(PerennialError, match="no machine has the group"):
        spread({}, 1)
    assert spread({}, 0) == {}


def test_a_size_is_spread_over_many_machines_at_once() -> None:
    after = spread({f"machine-{number}": number % 3 for number in range(2000)}, 100_000)
    assert set(after.values()) == {50}
