"""The fleet on this machine: the contract with a real supervisord, whose members only sleep."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perennial.capacity import IDLE, MachineResources
from perennial.errors import Busy, FleetMissing, NoCapacity
from perennial.files import make_private, write_atomic
from perennial.fleet import opened
from perennial.lock import exclusive
from perennial.observation import Observation
from perennial.paths import ClusterPaths
from perennial.platforms.local import fleet as fleets
from perennial.platforms.local import layout
from perennial.platforms.local.deploy import numbers
from perennial.render import supervisord_conf
from perennial.spec import dump, loads
from perennial.state import State
from perennial.supervision import supervisor
from tests.homes import wait_until
from tests.platforms.contract import Contract, Platform, ids, there

MEMBER = """#!/bin/sh
[ -e {root}/hold ] && exit 1
[ -e {root}/slow ] && trap 'sleep 2; exit 0' TERM
: > {root}/$$
while [ -e {root}/slow ]; do sleep 0.1; done
exec sleep 1000
"""


class OnThisMachine(Platform):
    """A cluster folder as `perennial up` makes it, with three members and no scheduler."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.paths = paths = ClusterPaths(root / "lab")
        member = root / "member"
        member.write_text(MEMBER.format(root=root))
        member.chmod(0o700)
        self.spec = loads(
            f"{{name: lab, platform: local, jupyter: null, environment: {{python: {member}}},"
            " workers: {cpu: {count: 3, memory: 256 MiB, scale: {max: 9}},"
            " cpu-x: {count: 1, memory: 256 MiB}}}"
        )
        for folder in (paths.root, paths.units, paths.logs, paths.run, paths.scratch):
            make_private(folder)
        write_atomic(paths.spec, dump(self.spec))
        State(declared={"cpu": 3, "cpu-x": 1}, sizes={"cpu": 3, "cpu-x": 1}).save(paths)
        self.units = layout.programs(self.spec, paths, {"cpu": range(3), "cpu-x": range(1)})
        for program in self.units.values():
            if program.group:
                write_atomic(paths.units / f"{program.name}.conf", program.text)
        log = paths.logs / "supervisord.log"
        write_atomic(paths.supervisord_conf, supervisord_conf(paths.socket, log, paths.units))
        supervisor.launch(paths)
        self.supervisor = supervisor.Supervisor(paths.socket)
        handle = layout.fleets(self.spec, paths)["cpu"]
        self.fleet = self.local = fleets.LocalFleet(**dict(handle))
        self.settled(3)

    def settled(self, size: int) -> Observation:
        """Wait until the members have come to the line where they sleep, too."""
        seen = super().settled(size)
        wait_until(lambda: all((self.root / str(pid)).exists() for pid in self.pids().values()))
        return seen

    def pids(self) -> dict[str, int]:
        found = self.supervisor.processes()
        return {name: process.pid for name, process in found.items() if process.pid}

    def picture(self) -> Any:
        files = {path: path.stat().st_mtime_ns for path in self.paths.root.rglob("*.conf")}
        return files, self.pids(), State.load(self.paths)

    def hold_back(self) -> None:
        (self.root / "hold").touch()

    def slow(self) -> None:
        (self.root / "slow").touch()

    def lose(self) -> None:
        self.paths.spec.unlink()

    @contextmanager
    def busy(self) -> Iterator[None]:
        with exclusive(self.paths.lock, lambda _text: None):
            yield

    def fill(self) -> None:
        def full(path: Path, _text: str) -> None:
            raise OSError(28, "No space left on device", str(path))

        self.monkeypatch.setattr(fleets, "write_atomic", full)

    def stop(self) -> None:
        self.supervisor.shutdown(timeout=30.0)

    def close(self) -> None:
        """End everything at once."""
        if pid := self.supervisor.pid():
            for each in (pid, *self.pids().values()):
                supervisor.signal_process(each, signal.SIGKILL)
            supervisor.wait_gone(pid, 30.0)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnThisMachine]:
    root = Path(tempfile.mkdtemp(prefix="f-", dir="/tmp"))
    made = OnThisMachine(root, monkeypatch)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


class TestLocal(Contract):
    pass


def test_a_new_member_is_what_up_would_write_and_the_others_go_on(platform: OnThisMachine) -> None:
    before = platform.pids()
    assert platform.fleet.resize(5) == 5
    platform.settled(5)
    assert numbers(platform.paths, ["cpu", "cpu-x"]) == {"cpu": {0, 1, 2, 3, 4}, "cpu-x": {0}}
    wanted = layout.programs(platform.spec, platform.paths, {"cpu": range(5)})
    for index in range(5):
        name = f"cpu-{index}"
        assert (platform.paths.units / f"{name}.conf").read_text() == wanted[name].text
    assert {name: pid for name, pid in platform.pids().items() if name in before} == before
    assert State.load(platform.paths).sizes == {"cpu": 5, "cpu-x": 1}


def test_any_set_of_numbers_stays_and_the_lowest_free_ones_are_given(
    platform: OnThisMachine,
) -> None:
    members = platform.fleet.observe().members
    assert platform.fleet.resize(2, members[:1]) == 2
    assert there(platform.settled(2)) == {"cpu-1", "cpu-2"}
    assert platform.fleet.resize(4) == 4
    assert there(platform.settled(4)) == {"cpu-0", "cpu-1", "cpu-2", "cpu-3"}


def test_the_name_of_who_has_not_gone_yet_is_not_given_away(platform: OnThisMachine) -> None:
    platform.slow()
    platform.fleet.resize(4)
    platform.settled(4)
    [leaving] = [m for m in platform.fleet.observe().members if m.id == "cpu-3"]
    assert platform.fleet.resize(3, [leaving]) == 3
    states = {member.id: member.state for member in platform.fleet.observe().members}
    assert states["cpu-3"] == "leaving"
    assert platform.fleet.resize(4) == 4
    assert "cpu-4" in there(platform.fleet.observe())
    wait_until(lambda: "cpu-3" not in ids(platform.fleet.observe().members))
    assert platform.fleet.resize(5) == 5
    assert "cpu-3" in there(platform.settled(5))


def test_a_supervisord_that_starts_anew_does_not_bring_back_who_left(
    platform: OnThisMachine,
) -> None:
    platform.fleet.resize(2, platform.fleet.observe().members[2:])
    platform.stop()
    with pytest.raises(FleetMissing, match="perennial up"):
        platform.fleet.observe()
    with pytest.raises(FleetMissing, match="perennial up"):
        platform.fleet.resize(3)
    supervisor.launch(platform.paths)
    assert there(platform.settled(2)) == {"cpu-0", "cpu-1"}


def test_a_change_that_was_cut_off_is_finished_by_the_next(platform: OnThisMachine) -> None:
    # Cut off after the unit was removed, and after another one was written.
    (platform.paths.units / "cpu-2.conf").unlink()
    wanted = layout.programs(platform.spec, platform.paths, {"cpu": [5]})["cpu-5"]
    write_atomic(platform.paths.units / "cpu-5.conf", wanted.text)
    seen = platform.fleet.observe()
    states = {member.id: member.state for member in seen.members}
    assert states == {
        "cpu-0": "running",
        "cpu-1": "running",
        "cpu-5": "starting",
        "cpu-2": "leaving",
    }
    assert seen.desired == 3
    assert platform.fleet.resize(3) == 3
    assert there(platform.settled(3)) == {"cpu-0", "cpu-1", "cpu-5"}


def test_it_is_opened_by_its_handle(platform: OnThisMachine) -> None:
    handle = layout.fleets(platform.spec, platform.paths)["cpu-x"]
    assert opened("local", handle).observe().desired == 1
    whole = layout.fleets(platform.spec, platform.paths)["cpu"]
    gone = whole.model_copy(update={"group": "gone"})
    with pytest.raises(FleetMissing, match="no group of lab"):
        opened("local", gone).resize(1)
    with pytest.raises(FleetMissing):
        opened("local", gone.model_copy(update={"root": f"{platform.root}/nowhere"})).resize(1)


def test_a_group_without_scale_has_the_size_that_it_has(platform: OnThisMachine) -> None:
    fixed = opened("local", layout.fleets(platform.spec, platform.paths)["cpu-x"])
    seen = fixed.observe()
    assert (seen.least, seen.desired, seen.most) == (1, 1, 1)
    before = platform.picture()
    assert fixed.resize(0, seen.members) == 1
    assert fixed.resize(5) == 1
    assert platform.picture() == before


def test_more_than_the_machine_has_memory_for_is_no_capacity(platform: OnThisMachine) -> None:
    # cpu-x counts as well: of six workers, five are left for this group.
    platform.monkeypatch.setattr(
        fleets, "this_machine", lambda: MachineResources(2, 6 * IDLE, 6 * IDLE)
    )
    assert platform.fleet.resize(99_999) == 5
    platform.settled(5)
    before = platform.picture()
    said = r"^cpu: 5 members; this machine's memory holds at most 6 idle workers"
    with pytest.raises(NoCapacity, match=said):
        platform.fleet.resize(99_999)
    assert platform.picture() == before


def test_it_holds_what_its_members_are_promised(platform: OnThisMachine) -> None:
    # Four members of both groups stand; a quarter of the memory is for the other services.
    small = MachineResources(2, 8 * 2**30, 2**30)
    platform.monkeypatch.setattr(fleets, "this_machine", lambda: small)
    seen = platform.fleet.observe()
    assert seen.most == 3 + (6 * 4 - 4)
    assert seen.room == (
        "this machine has 2 cores and 8.0 GiB: room for 32 worker processes and 6.0 GiB of memory"
        " limits"
    )
    platform.monkeypatch.setattr(fleets, "this_machine", lambda: MachineResources(1, 2**40, 2**40))
    assert platform.fleet.observe().most == 3 + (16 - 4)
    platform.monkeypatch.setattr(
        fleets, "this_machine", lambda: MachineResources(8, 4 * IDLE, 4 * IDLE)
    )
    assert platform.fleet.observe().most == 3  # never fewer than stand
    assert platform.fleet.observe().utmost == 3
    # Who means it gets more, as far as there is memory for idle processes.
    platform.monkeypatch.setattr(
        fleets, "this_machine", lambda: MachineResources(8, 5 * IDLE, 5 * IDLE)
    )
    seen = platform.fleet.observe()
    assert seen.utmost == 4
    assert seen.beyond == "as this machine's 0.5 GiB hold 5 idle workers in all; ask for fewer"
    assert platform.fleet.resize(9) == seen.utmost


def test_busy_says_who_is_at_work(platform: OnThisMachine) -> None:
    with platform.busy(), pytest.raises(Busy, match=f"process {os.getpid()}"):
        platform.fleet.resize(1)


def test_the_groups_of_one_scaler_wait_for_each_other(platform: OnThisMachine) -> None:
    handle = layout.fleets(platform.spec, platform.paths)["cpu"]
    others = [fleets.LocalFleet(**dict(handle)) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        held = list(pool.map(lambda fleet: fleet.resize(5), others))
    assert held == [5] * 4
    platform.settled(5)
