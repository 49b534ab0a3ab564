"""What shall stand on a machine, and what is to be done to get there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import PerennialError
from perennial.platforms.hosts.desired_state import DesiredState, request, steps
from perennial.platforms.hosts.machine_services import MachineServices, services_by_machine
from perennial.platforms.hosts.sizes import spread
from perennial.services import PLACEHOLDERS
from tests.platforms.hosts import clusters
from tests.platforms.hosts.clusters import PLAIN, spec_of, under

SECRETS = {"/etc/dask-perennial/lab/tls/ca.pem": "pem"}


def share_of(machine: str, **keys: Any) -> MachineServices:
    return services_by_machine(spec_of(PLAIN, **keys))[machine]


def arranged(assigned: MachineServices, **sizes: int) -> DesiredState:
    return clusters.arranged(assigned, sizes, SECRETS)


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
    wanted = arranged(share_of("machine-a"))
    [secret] = [file for file in wanted.files if file.path in SECRETS]
    assert (secret.mode, secret.owner) == (0o600, None)
    # Without root all is the user's alone.
    wanted = arranged(share_of("machine-a", **under("supervisord")))
    assert {f.mode for f in wanted.files if not f.path.endswith(".service")} == {0o600}
    assert {(f["mode"], f["owner"]) for f in wanted.folders} == {(0o700, None)}


def test_without_root_everything_is_below_the_home_folder() -> None:
    for machine, keys in (
        ("machine-a", {"jupyter": {}}),
        ("machine-b", {"workers": {"cpu": {"count": 2, "scale": {"max": 8}}}}),
        ("machine-a", {"workers": {"cpu": {"count": 2, "scale": {"max": 8}}}}),
    ):
        wanted = arranged(share_of(machine, **under("supervisord"), **keys), cpu=2)
        paths = [f.path for f in wanted.files if f.path not in SECRETS]
        paths += [folder["path"] for folder in wanted.folders]
        assert all(path.startswith("/home/ada/.") for path in paths), paths
        text = "".join([*(f.text for f in wanted.files), *(p.text for p in wanted.programs)])
        for word in (*PLACEHOLDERS, "/etc/dask", "/var/lib", "/run/dask", "ue00"):
            assert word not in text, word


def test_a_size_changes_no_unit_but_the_groups_target() -> None:
    small, large = (arranged(share_of("machine-b"), cpu=size) for size in (1, 5))
    before = {file.path: file.text for file in small.files}
    changed = {file.path for file in large.files if before.get(file.path) != file.text}
    assert changed == {"/etc/systemd/system/dask-lab-cpu.target"}
    assert steps(large, running(small)).restart == ()


def test_supervisord_has_a_program_for_each_member_and_nothing_of_roots() -> None:
    wanted = arranged(share_of("machine-b", **under("supervisord")), cpu=2)
    assert list(wanted.members) == ["cpu-machine-b-0", "cpu-machine-b-1"]
    said = request(wanted, "conf", 0)
    assert [program["name"] for program in said["programs"]] == ["health", *wanted.members]
    assert said["dashboard"] is None
    assert wanted.units == ("dask-lab-machine-b.service",)
    assert wanted.users == {}


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
