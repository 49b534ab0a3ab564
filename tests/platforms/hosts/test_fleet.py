"""The fleet on hosts: the contract with a real scheduler and real keepers, whose members sleep."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from perennial import authority
from perennial.errors import Busy, FleetError, NoCapacity
from perennial.platforms.hosts.fleet import GroupOnMachine, HostsFleet, planned
from perennial.tls import Tls
from tests import dask_processes
from tests.homes import wait_until
from tests.platforms.contract import Contract, Platform, ids, there
from tests.platforms.hosts import units_keeper
from tests.ports import NO_PAGES, free_port

MACHINES = ("machine-b", "machine-c")
PRELOAD = ("--preload", "perennial.preloads.fleets")


class OnHosts(Platform):
    """Machines that are folders, each with a keeper, and a scheduler with TLS."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self.stack = root, stack
        self.tls = root / "tls"
        authority.ensure(self.tls, "lab", ("127.0.0.1",))
        self.port = free_port()
        self.address = f"tls://127.0.0.1:{self.port}"
        self.keepers: dict[str, subprocess.Popen[bytes]] = {}
        self.full = self.lost = False
        self.begin(*PRELOAD)
        for machine in MACHINES:
            (root / machine).mkdir()
            self.keep(machine, 10)
        self.fleet: HostsFleet = HostsFleet(**self.handle())

    def reset(self) -> None:
        """Have three members that run, whatever was before."""
        if self.lost:
            self.serving.close()
            self.begin(*PRELOAD)
        for machine in MACHINES:
            for name in ("hold", "slow"):
                (self.root / machine / name).unlink(missing_ok=True)
            if self.full or machine not in self.keepers:
                self.keep(machine, 10)
        self.full = self.lost = False
        wait_until(lambda: {each.most for each in self.look().values()} == {10})
        wait_until(lambda: len(self.look()) == len(MACHINES))
        self.fleet.resize(0, self.fleet.observe().members)
        self.settled(0)
        self.fleet.resize(3)
        self.settled(3)

    def handle(self) -> dict[str, Any]:
        return {
            "group": "cpu",
            "machines": dict.fromkeys(MACHINES, 10),
            "scheduler": self.address,
            "tls": self.certificate("client"),
        }

    def certificate(self, role: str) -> Tls:
        return Tls(*(f"{self.tls}/{name}.pem" for name in ("ca", role, f"{role}-key")))

    def begin(self, *arguments: str) -> None:
        """Start a scheduler, always at the same address."""
        flags = dask_processes.tls_flags(self.tls, "scheduler")
        where = ("--host", "127.0.0.1", "--port", str(self.port), *NO_PAGES)
        self.serving = self.stack.enter_context(ExitStack())
        self.serving.enter_context(
            dask_processes.dask(self.root, "scheduler", *where, *flags, *arguments)
        )

    def keep(self, machine: str, most: int) -> None:
        """Start a keeper, or start it anew."""
        self.kill(machine)
        folder = self.root / machine
        keeper = {
            "cluster": "lab",
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "socket": str(folder / "socket"),
            "state": str(folder / "state"),
            "groups": {"cpu": most},
            "uses": {"cpu": [1, 2**20]},
            "services": 0,
        }
        relay = {
            "machine": machine,
            "scheduler": self.address,
            "tls": asdict(self.certificate("worker")),
            "socket": str(folder / "socket"),
        }
        (folder / "keeper.json").write_text(json.dumps(keeper))
        (folder / "relay.json").write_text(json.dumps(relay))
        script = units_keeper.__file__
        with (folder / "log").open("ab") as log:
            self.keepers[machine] = subprocess.Popen(
                [sys.executable, script, str(folder)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, machine: str) -> None:
        if keeper := self.keepers.pop(machine, None):
            keeper.kill()
            keeper.wait()

    def look(self) -> Mapping[str, GroupOnMachine]:
        try:
            return self.fleet._look()
        except FleetError:
            return {}

    def pids(self) -> dict[str, int]:
        files = [file for file in self.root.glob("machine-*/cpu@*") if not file.suffix]
        found = {f"{file.parent.name}/{file.name}": int(file.read_text()) for file in files}
        return {name: pid for name, pid in found.items() if units_keeper.alive(pid)}

    def picture(self) -> Any:
        files = [self.root / machine / "state" / "wanted.json" for machine in MACHINES]
        return self.pids(), [(file.read_text(), file.stat().st_mtime_ns) for file in files]

    def hold_back(self) -> None:
        for machine in MACHINES:
            (self.root / machine / "hold").touch()

    def lose(self) -> None:
        """Let the scheduler be one that knows no keepers."""
        self.lost = True
        self.serving.close()
        self.begin()
        wait_until(self.is_lost)

    def is_lost(self) -> bool:
        try:
            self.fleet.observe()
        except FleetError as error:
            return "preload" in str(error)
        return False

    @contextmanager
    def busy(self) -> Iterator[None]:
        with ExitStack() as stack:
            for machine in MACHINES:
                lock = stack.enter_context((self.root / machine / "lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            wait_until(lambda: all(held.trouble for held in self.look().values()))
            yield
        wait_until(lambda: not any(held.trouble for held in self.look().values()))

    def fill(self) -> None:
        self.full = True
        for machine in MACHINES:
            self.keep(machine, len(self.look()[machine].wanted))
        wait_until(lambda: [held.free for held in self.look().values()] == [[] for _ in MACHINES])

    def said(self) -> str:
        """What the fleet complains of."""
        try:
            self.fleet.observe()
        except FleetError as error:
            return str(error)
        return ""

    def log(self, machine: str) -> str:
        return (self.root / machine / "log").read_text()

    def close(self) -> None:
        for machine in MACHINES:
            self.kill(machine)
        for pid in self.pids().values():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def machines() -> Iterator[OnHosts]:
    root = Path(tempfile.mkdtemp(prefix="h-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        made = OnHosts(root, stack)
        stack.callback(made.close)
        yield made


@pytest.fixture
def platform(machines: OnHosts) -> OnHosts:
    machines.reset()
    return machines


class TestHosts(Contract):
    def test_members_are_named_after_their_group_and_differ(self, platform: Platform) -> None:
        seen = platform.fleet.observe()
        assert seen.desired == len(ids(seen.members)) == 3
        assert [member.worker for member in seen.members] == [
            "cpu-machine-b-0",
            "cpu-machine-b-1",
            "cpu-machine-c-0",
        ]
        assert {member.state for member in seen.members} == {"running"}
        assert (seen.least, seen.most, seen.utmost) == (0, 20, 20)
        assert seen.beyond.startswith("the scale.max that its machines were deployed with; raise")
        assert seen.room.startswith("machine-b has ")
        assert "worker processes" in seen.room

    def test_a_platform_without_room(self, platform: Platform) -> None:
        before = platform.fleet.observe()
        platform.fill()
        with pytest.raises(NoCapacity, match="cpu"):
            platform.fleet.resize(4)
        assert platform.fleet.observe().members == before.members
        assert platform.fleet.observe().most == 3
        # Whoever leaves needs no room.
        assert platform.fleet.resize(2, before.members[:1]) == 2


def test_all_groups_share_one_connection_that_outlives_a_scheduler(platform: OnHosts) -> None:
    fleets = [platform.fleet, HostsFleet(**{**platform.handle(), "group": "gpu"})]

    def connections() -> set[tuple[Any, ...]]:
        every = psutil.Process().net_connections("tcp")
        return {one.laddr for one in every if one.raddr and one.raddr[1] == platform.port}

    fleets[0].observe()
    used = connections()
    assert len(used) == 1
    for fleet in fleets * 3:
        with suppress(FleetError):  # no machine has members of the other group
            fleet.observe()
    assert connections() == used
    platform.serving.close()
    platform.begin(*PRELOAD)
    wait_until(lambda: len(platform.look()) == len(MACHINES))
    assert platform.fleet.observe().desired == 3


def test_a_keeper_that_is_killed_ends_what_it_had_begun(platform: OnHosts) -> None:
    before = platform.pids()
    for machine in MACHINES:
        platform.kill(machine)
    assert platform.pids() == before
    # Written down, and killed before anything was done about it.
    wanted = platform.root / "machine-b" / "state" / "wanted.json"
    wanted.write_text(json.dumps({"cpu": [1, 4]}))
    for machine in MACHINES:
        platform.keep(machine, 10)
    # What the dead ones have told is believed for a while.
    now = {"machine-b/cpu@1", "machine-b/cpu@4", "machine-c/cpu@0"}
    wait_until(lambda: there(platform.fleet.observe()) == now)
    platform.settled(3)
    stayed = {name: pid for name, pid in before.items() if name != "machine-b/cpu@0"}
    assert stayed.items() <= platform.pids().items()


def test_new_members_go_where_there_are_fewest_and_take_no_name_that_is_in_use(
    platform: OnHosts,
) -> None:
    (platform.root / "machine-b" / "slow").touch()
    assert platform.fleet.resize(5) == 5
    seen = platform.settled(5)
    assert there(seen) - {"machine-b/cpu@0", "machine-b/cpu@1"} == {
        "machine-b/cpu@2",
        "machine-c/cpu@0",
        "machine-c/cpu@1",
    }
    [leaving] = [member for member in seen.members if member.id == "machine-b/cpu@2"]
    platform.hold_back()  # however quick the keeper is, the new one is still starting
    assert platform.fleet.resize(5, [leaving]) == 5
    states = {member.id: member.state for member in platform.fleet.observe().members}
    assert states["machine-b/cpu@2"] == "leaving"
    assert states["machine-b/cpu@3"] == "starting"


def test_a_scheduler_that_restarted_knows_all_again(platform: OnHosts) -> None:
    before, pids = platform.fleet.observe(), platform.pids()
    platform.serving.close()
    with pytest.raises(FleetError, match="cpu: the scheduler at tls://127"):
        platform.fleet.observe()
    with pytest.raises(Busy, match="cpu: the scheduler at tls://127"):
        platform.fleet.resize(1)
    platform.kill("machine-c")
    platform.begin(*PRELOAD)
    wait_until(lambda: "machine-c has not asked" in platform.said())
    platform.keep("machine-c", 10)
    wait_until(lambda: platform.said() == "")
    assert platform.fleet.observe() == before
    assert platform.pids() == pids


def test_a_machine_whose_keeper_is_silent_frees_the_others(platform: OnHosts) -> None:
    before = platform.fleet.observe()
    platform.kill("machine-c")
    wait_until(lambda: len(platform.fleet.observe().members) == 2)
    seen = platform.fleet.observe()
    # No worker of it is registered, so that its members are gone; and nothing is settled.
    assert (seen.desired, seen.most, seen.settled) == (2, 10, False)
    assert platform.fleet.resize(3) == 3
    assert "machine-b/cpu@2" in there(platform.fleet.observe())
    assert platform.fleet.resize(3, before.members[2:]) == 3
    platform.keep("machine-c", 10)
    assert there(platform.settled(4)) == ids(before.members) | {"machine-b/cpu@2"}


def test_a_machine_in_trouble_does_not_keep_the_members_of_others() -> None:
    held = {
        "b": GroupOnMachine(frozenset({0, 1}), {0: "running", 1: "starting"}, 10),
        "c": GroupOnMachine(frozenset({0}), {0: "running"}, 0, trouble="silent", away=True),
    }
    change = planned(held, 1, {("b", 0), ("c", 0)})
    assert change.wants == {"b": {1}}  # nobody is given up in the place of c's member
    assert change.stuck == {"c"}
    alone = planned(held, 2, {("c", 0)})
    assert (alone.wants, alone.stuck) == ({}, {"c"})


def test_a_keeper_refuses_what_is_not_its_own(platform: OnHosts) -> None:
    before = platform.picture()
    platform.fleet._ask("perennial_size", group="cpu", wanted={"machine-b": {"want": [0, 99]}})
    wait_until(lambda: "found member 99; allowed: below 10" in platform.log("machine-b"))
    wait_until(lambda: platform.fleet.observe().settled)
    assert platform.picture() == before
    for group, want in (("gpu", [0]), ("cpu", [-1]), ("cpu", [True]), ("cpu", [100_000])):
        with pytest.raises(Busy, match="cpu: "):
            platform.fleet._ask("perennial_size", group=group, wanted={"machine-b": {"want": want}})
    assert platform.picture() == before
