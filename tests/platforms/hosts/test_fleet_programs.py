"""Members under a real supervisord, as a keeper has them."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.files import make_private, write_atomic
from perennial.paths import ClusterPaths
from perennial.platforms.hosts.programs import MARK, Programs
from perennial.render import supervisord_conf
from perennial.supervision import supervisor
from tests.homes import wait_until

#: Says that it handles SIGTERM; one that is told to stop leaves as soon as it may.
MEMBER = """\
trap 'while [ ! -e ROOT/may-leave ]; do sleep 0.1; done; exit 0' TERM
: > ROOT/$SUPERVISOR_PROCESS_NAME.ready
while :; do sleep 0.1; done
"""
PROGRAM = f"""[program:cpu-machine-c-{MARK}]
command=/bin/sh MEMBER
autostart=true
autorestart=true
startsecs=0
stopwaitsecs=20
"""


class Machine:
    def __init__(self, root: Path) -> None:
        self.paths = paths = ClusterPaths(root / "supervisord")
        self.root = root
        for folder in (paths.root, paths.units, paths.logs, paths.run):
            make_private(folder)
        self.texts = root / "kept"
        write_atomic(root / "member", MEMBER.replace("ROOT", str(root)))
        program = PROGRAM.replace("MEMBER", f"{root}/member")
        write_atomic(self.texts / "cpu.conf", program)
        other = program.replace(f"cpu-machine-c-{MARK}", "gpu-machine-c-0")
        write_atomic(paths.units / "gpu-machine-c-0.conf", other)
        self.supervisor = supervisor.Supervisor(paths.socket)
        self.begin()
        self.programs = Programs(paths.root, "machine-c", ["cpu"], self.texts)

    def begin(self) -> None:
        log = self.paths.logs / "supervisord.log"
        conf = supervisord_conf(self.paths.socket, log, self.paths.units)
        write_atomic(self.paths.supervisord_conf, conf)
        supervisor.launch(self.paths)

    def units(self) -> set[str]:
        return {path.stem for path in self.paths.units.glob("cpu-*.conf")}

    def close(self) -> None:
        if pid := self.supervisor.pid():
            for process in self.supervisor.processes().values():
                if process.pid:
                    supervisor.signal_process(process.pid, signal.SIGKILL)
            supervisor.signal_process(pid, signal.SIGKILL)
            supervisor.wait_gone(pid, 30.0)


@pytest.fixture
def machine() -> Iterator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    made = Machine(root)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


def test_members_come_and_go_and_no_other_program_is_touched(machine: Machine) -> None:
    programs = machine.programs
    assert programs.states() == {"cpu": {}}
    programs.start("cpu", [0, 3])
    wait_until(lambda: programs.states() == {"cpu": {0: "running", 3: "running"}})
    assert machine.units() == {"cpu-machine-c-0", "cpu-machine-c-3"}
    programs.start("cpu", [1])
    for index in (1, 3):
        wait_until((machine.root / f"cpu-machine-c-{index}.ready").exists)
    programs.stop("cpu", [1, 3])
    assert machine.units() == {"cpu-machine-c-0"}
    assert programs.states() == {"cpu": {0: "running", 1: "leaving", 3: "leaving"}}
    (machine.root / "may-leave").touch()
    wait_until(lambda: programs.states() == {"cpu": {0: "running"}})
    # Whoever has left can come again.
    programs.start("cpu", [1])
    wait_until(lambda: programs.states() == {"cpu": {0: "running", 1: "running"}})
    assert machine.supervisor.processes()["gpu-machine-c-0"].alive


def test_a_supervisord_that_starts_anew_has_those_who_shall_be_there(machine: Machine) -> None:
    machine.programs.start("cpu", [0, 2])
    wait_until(lambda: len(machine.programs.states()["cpu"]) == 2)
    machine.programs.stop("cpu", [0])
    machine.close()
    with pytest.raises(PerennialError, match="does not answer"):
        machine.programs.states()
    machine.begin()
    wait_until(lambda: machine.programs.states() == {"cpu": {2: "running"}})


def test_a_group_that_no_deploy_has_written(machine: Machine) -> None:
    (machine.texts / "cpu.conf").unlink()
    with pytest.raises(PerennialError, match=r"cpu\.conf: .*perennial up"):
        machine.programs.start("cpu", [0])
    assert machine.units() == set()
