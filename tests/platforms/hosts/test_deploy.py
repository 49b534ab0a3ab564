"""What a deploy asks of a machine, and what became of its part of a cluster."""

from __future__ import annotations

import copy
import hashlib
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from perennial.platforms.hosts import deploy
from perennial.platforms.hosts.agent import states
from perennial.platforms.hosts.desired_state import DesiredState, Init, Placed
from perennial.platforms.hosts.drift import _kind, drift, kept_programs, outdated, reads, spoilt
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.platforms.hosts.ownership import NOBODY
from perennial.platforms.hosts.programs import MARK
from tests.platforms.hosts.clusters import arranged, spec_of, under, user_home

UNIT = "dask-lab-cpu@0.service"
FILE = "/etc/dask-perennial/lab/cpu.yaml"
PROGRAM = "/var/lib/dask-perennial/lab/supervisord/conf.d/cpu-machine-b-0.conf"
MEMBER = {"state": "active", "pid": 7, "fingerprint": "mark", "restarts": 0, "since": 100.0}
FOUND: dict[str, Any] = {
    "manifest": {
        "whole": True,
        "expected": {FILE: ["digest", 0o644, None]},
        "members": {UNIT: "mark"},
        "users": ["dask-lab"],
        "reads": {"dask-lab-cpu@": [FILE]},
        "programs": {PROGRAM: "digest"},
    },
    "edited": {},
    "programs": {PROGRAM: "digest"},
    "users": ["dask-lab"],
    "files": {FILE: ["digest", 0o644, None]},
    "members": {UNIT: MEMBER},
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
        (("programs", PROGRAM), "other", f"{PROGRAM} was edited"),
        (("programs",), {}, f"{PROGRAM} is missing"),
        (
            ("edited",),
            {FILE: 99.0},
            f"dask-lab-cpu@0 was started with {FILE} as it was edited, and restarts",
        ),
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


def test_what_was_edited_after_the_start_is_only_written_again() -> None:
    found = {**FOUND, "edited": {FILE: 101.0}}
    assert (drift("lab", found, OUTCOME), outdated(found)) == ([], {})


def test_who_was_started_with_an_edited_file_is_known_until_it_has_gone() -> None:
    found = {**FOUND, "edited": {FILE: 99.0}}
    assert outdated(found) == {UNIT: 7}
    # The file is as it shall be again, and the deploy was cut off.
    cut: dict[str, Any] = {**FOUND, "manifest": {**FOUND["manifest"], "outdated": {UNIT: 7}}}
    assert outdated(cut) == {UNIT: 7}
    assert outdated({**cut, "members": {UNIT: {**MEMBER, "pid": 8}}}) == {}


def test_a_program_is_written_again_whose_text_no_deploy_changes() -> None:
    found = {**FOUND, "programs": {PROGRAM: "edited"}}
    assert spoilt(found, {PROGRAM: "digest"}) == ["cpu-machine-b-0"]
    assert spoilt({**FOUND, "programs": {}}, {PROGRAM: "digest"}) == ["cpu-machine-b-0"]
    assert spoilt(FOUND, {PROGRAM: "digest"}) == []
    assert spoilt(found, {PROGRAM: "new"}) == []  # that restarts it anyway


def test_who_reads_what_is_told_for_every_member() -> None:
    inits: tuple[Init, ...] = ("systemd", "supervisord")
    for init in inits:
        assigned = services_by_machine(spec_of(**under(init)))["machine-b"]
        wanted = arranged(assigned)
        parts = [part.at("10.0.0.9", folder=user_home().folder) for part in assigned.services]
        found = reads("lab", init, parts)
        assert {_kind(unit) for unit in wanted.members} == set(found)
        written = {file.path for file in wanted.files}
        assert {path for paths in found.values() for path in paths} <= written


def test_a_process_knows_when_it_was_started(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    time.sleep(0.05)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        time.sleep(0.05)
        (tmp_path / "after").touch()
        since = states.since(process.pid)
        process.kill()
    times = [(tmp_path / name).stat().st_mtime for name in ("before", "after")]
    assert since is not None
    assert times[0] < since < times[1]


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
    wanted = DesiredState("systemd", (file,), (), {}, {}, ("dask-lab-scheduler.service",))
    found = {"manifest": known, "files": {file.path: file.state}, "members": {}}
    agent: Any = Asked()
    deploy._put(agent, (services_by_machine(spec_of())["machine-b"], ()), wanted, found, (), NOBODY)
    assert agent.done == ["begin", *["systemd_reload"] * reloads]


def test_an_edited_program_of_a_keepers_member_is_found_and_written_again(tmp_path: Path) -> None:
    workers = {"cpu": {"count": 2, "scale": {"max": 8}}}
    assigned = services_by_machine(spec_of(workers=workers, **under("supervisord")))["machine-b"]
    wanted = arranged(assigned, {"cpu": [0, 12]})
    (prefix,) = kept_programs(wanted)
    source = tmp_path / "kept.conf"
    source.write_text(next(f.text for f in wanted.files if f.path.endswith("/kept/cpu.conf")))
    known = {
        "kept_programs": {prefix: str(source)},
        "mark": MARK,
        "expected": {str(source): [hashlib.sha256(source.read_bytes()).hexdigest(), 0o644, None]},
    }
    for program in wanted.programs:
        (tmp_path / f"{program.name}.conf").write_text(program.text)
    assert states.altered(tmp_path, known) == []
    edited = tmp_path / f"{prefix}12.conf"
    edited.write_text(edited.read_text() + "; x\n")
    assert states.altered(tmp_path, known) == [str(edited)]
    found = {**FOUND, "altered": [str(edited)]}
    assert drift("lab", found, OUTCOME) == [f"{edited} was edited"]
    assert spoilt(found, {}) == [f"{prefix}12"]
    source.write_text("; x\n")  # that is told by itself
    assert states.altered(tmp_path, known) == []
