"""What a client that has taken over the scheduler reaches: the relay, and never root's part."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perennial import authority
from perennial.capacity import STARTS
from perennial.platforms.hosts.agent.keeper import PACE
from perennial.platforms.hosts.agent.machine import this_machine
from perennial.platforms.hosts.agent.reconciling import LONGEST
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.platforms.hosts.program import with_program
from perennial.services import File, fingerprint
from tests import dask_processes
from tests.homes import wait_until
from tests.platforms.hosts import units_keeper
from tests.platforms.hosts.clusters import PLAIN, spec_of

ROOT = os.geteuid() == 0
SCALED = spec_of(PLAIN, workers={"cpu": {"count": 2, "scale": {"max": 8}}})
#: The cluster's user; a real one where these tests may become it.
USER = "nobody" if ROOT else pwd.getpwuid(os.geteuid()).pw_name
#: Becomes a user once all is imported: the interpreter may be where only root can read it.
BECOME = """
import os, pwd, sys
def become(name):
    if os.geteuid() == 0:
        user = pwd.getpwnam(name)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
"""
RELAY = f"""{BECOME}
import distributed, encodings.idna
from perennial.platforms.hosts import relay
become({USER!r})
sys.exit(relay.main(sys.argv[1]))
"""
#: Says whether the keeper answers a user.
STRANGER = f"""{BECOME}
import socket
become(sys.argv[1])
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    line.connect(sys.argv[2])
    line.sendall(b"{{}}")
    print(len(line.recv(2**20)) > 0)
except OSError as error:
    print(type(error).__name__)
"""
#: Lets the scheduler answer what it is asked with an object that runs code where it is unpickled.
TAKE_OVER = """
from distributed import Client
from distributed.security import Security

def take_over(dask_scheduler):
    code = (
        f"[open('{ran}/' + str(__import__('os').getpid()), 'w')"
        f".write(str(__import__('os').geteuid())), {answer!r}][1]"
    )
    class Evil:
        def __reduce__(self):
            return eval, (code,)
    dask_scheduler.handlers["perennial_keep"] = lambda **said: Evil()

security = Security(
    tls_ca_file=f"{tls}/ca.pem",
    tls_client_cert=f"{tls}/client.pem",
    tls_client_key=f"{tls}/client-key.pem",
    require_encryption=True,
)
with Client(address, security=security) as client:
    client.run_on_scheduler(take_over)
"""


class Machine:
    """A machine with a relay of the cluster's user, and a keeper as systemd has it.

    Parameters
    ----------
    folder : pathlib.Path
        Where all of it is.
    stack : contextlib.ExitStack
        Ends its processes.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.tls, self.ran = folder, folder / "tls", folder / "ran"
        self.socket = folder / "machine" / "socket"
        for each in (self.ran, self.socket.parent):
            each.mkdir()
        authority.ensure(self.tls, "lab", ("127.0.0.1",))
        preload = ("--preload", "perennial.preloads.fleets", "--dashboard-address", "127.0.0.1:0")
        home = folder / "home"
        home.mkdir()
        self.address = stack.enter_context(dask_processes.scheduler(home, self.tls, *preload))
        own = {
            "cluster": "lab",
            "user": USER,
            "socket": str(self.socket),
            "state": str(folder / "state"),
            "groups": {"cpu": 3, "many": 500},
            "uses": {"cpu": [1, 2**20], "many": [1, 2**20]},
            "services": 0,
        }
        (self.socket.parent / "keeper.json").write_text(json.dumps(own))
        keeper = (units_keeper.__file__, str(self.socket.parent))
        self.keeper = self._start(stack, "keeper", *keeper)

    def relay(self, stack: ExitStack) -> None:
        """Start the relay."""
        names = {"ca": "ca", "cert": "worker", "key": "worker-key"}
        told = {
            "machine": "machine-b",
            "scheduler": self.address,
            "tls": {key: f"{self.tls}/{name}.pem" for key, name in names.items()},
            "socket": str(self.socket),
        }
        file = self.folder / "relay.json"
        file.write_text(json.dumps(told))
        if ROOT:
            self.tls.chmod(0o755)
            for path in (self.ran, *(self.tls / f"{name}.pem" for name in names.values())):
                shutil.chown(path, USER)
        self.asks = self._start(stack, "relay", "-c", RELAY, str(file))

    def _start(self, stack: ExitStack, name: str, *argv: str) -> subprocess.Popen[bytes]:
        log = stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen([sys.executable, *argv], stdout=log, stderr=log, cwd=self.folder)
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def members(self, group: str = "cpu") -> set[str]:
        files = [file for file in self.socket.parent.glob(f"{group}@*") if not file.suffix]
        return {file.name for file in files if units_keeper.alive(int(file.read_text()))}

    def take_over(self, answer: Any) -> str:
        """Have the scheduler answer that, and run code where it is read."""
        told = {"ran": str(self.ran), "tls": str(self.tls), "address": self.address}
        names = "".join(
            f"{name} = {value!r}\n" for name, value in (told | {"answer": answer}).items()
        )
        return dask_processes.python(names + TAKE_OVER, self.folder)

    def ask(self, line: socket.socket, message: bytes) -> dict[str, Any]:
        line.sendall(message)
        found: dict[str, Any] = json.loads(line.recv(2**20))
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    with ExitStack() as stack:
        # Not pytest's own folder: others may not pass through that.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perennial-")))
        folder.chmod(0o755)
        made = Machine(folder, stack)
        stack.callback(end_members, made)
        wait_until(made.socket.exists)
        yield made


def end_members(machine: Machine) -> None:
    for file in machine.socket.parent.glob("*@*"):
        if not file.suffix and units_keeper.alive(int(file.read_text())):
            os.kill(int(file.read_text()), 9)


def connected(machine: Machine) -> socket.socket:
    """A connection of the cluster's user."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(60)
    user, (uid, gid) = pwd.getpwnam(USER), (os.geteuid(), os.getegid())
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        line.connect(str(machine.socket))
    finally:
        os.seteuid(uid)
        os.setegid(gid)
    return line


def test_whoever_takes_the_scheduler_over_runs_code_as_the_clusters_user_alone(
    machine: Machine,
) -> None:
    with ExitStack() as stack:
        machine.relay(stack)

        def asked(*want: Any, group: str = "cpu") -> dict[str, Any]:
            return {group: {"id": "1", "want": list(want), "unstarted": []}}

        assert machine.take_over(asked(0, 2)) == ""
        # It may choose among the members that the machine's file allows ...
        wait_until(lambda: machine.members() == {"cpu@0", "cpu@2"}, 60)
        # ... and nothing else.
        refused = {
            "cpu: found member 3; allowed: below 3": asked(0, 2, 3),
            "found group 'sshd'; allowed: cpu, many": asked(0, group="sshd"),
            "cpu: found ['../../ssh']; allowed: a list of whole numbers": asked("../../ssh"),
        }
        for said, answer in refused.items():
            assert machine.take_over(answer) == ""
            wait_until(lambda said=said: f"refused: {said}" in machine.log("keeper"), 60)
        assert machine.members() == {"cpu@0", "cpu@2"}
        ran = {int(file.name): file.read_text() for file in machine.ran.iterdir()}
        assert ran == {machine.asks.pid: str(pwd.getpwnam(USER).pw_uid)}
        assert machine.keeper.poll() is None


def test_nothing_that_is_sent_does_the_keeper_harm_or_hurries_it(machine: Machine) -> None:
    good = json.dumps({"cpu": {"id": "x", "want": [1], "unstarted": []}}).encode()
    with connected(machine) as line:
        for bad in (b"\x80\x04.", b"[" * LONGEST, b"x" * (LONGEST + 1), b"x" * (2 * LONGEST)):
            assert "refused: " in machine.ask(line, bad)["error"]
        began = time.monotonic()
        for _ in range(10):
            assert machine.ask(line, good)["groups"]["cpu"]["wanted"] == [1]
        assert time.monotonic() - began > 9 * PACE
    # Whoever holds the connection and says nothing is replaced by who comes next.
    with connected(machine), connected(machine) as line:
        assert machine.ask(line, b"{}")["groups"]["cpu"]["done"] == "x"
    assert machine.members() == {"cpu@1"}
    assert machine.keeper.poll() is None


def test_many_members_start_in_steps_and_fewer_are_obeyed_between_two(machine: Machine) -> None:
    at_once = STARTS * this_machine().cores
    (machine.socket.parent / "hold").touch()  # they are on their way, and do not arrive
    with connected(machine) as line:

        def asked(id: str, size: int) -> dict[str, Any]:
            want = {"id": id, "want": list(range(size)), "unstarted": []}
            told = machine.ask(line, json.dumps({"many": want}).encode())
            found: dict[str, Any] = told["groups"]["many"]
            return found

        assert asked("1", 400)["wanted"] == list(range(400))
        wait_until(lambda: asked("1", 400)["states"], 60)
        for _ in range(10):
            assert len(asked("1", 400)["states"]) <= at_once
        assert 1 <= len(machine.members("many")) <= at_once
        began = time.monotonic()
        assert asked("2", 1)["wanted"] == [0]
        wait_until(lambda: machine.members("many") <= {"many@0"}, 60)
        assert time.monotonic() - began < 30
        (machine.socket.parent / "hold").unlink()
        assert asked("3", 0)["wanted"] == []
        wait_until(lambda: not machine.members("many"), 60)
    started = [line for line in machine.log("keeper").splitlines() if "many: starting" in line]
    assert all(len(line.partition("starting")[2].split(",")) <= at_once for line in started)


@pytest.mark.skipif(not ROOT, reason="only root can be another user")
def test_only_the_clusters_user_may_ask(machine: Machine) -> None:
    def tried(user: str) -> str:
        argv = [sys.executable, "-c", STRANGER, user, str(machine.socket)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    assert machine.socket.stat().st_mode & 0o777 == 0o660
    assert tried(USER) == "True\n"
    assert tried("daemon") == "PermissionError\n"
    # The same where somebody has opened the file to all.
    machine.socket.chmod(0o666)
    assert tried("daemon") in ("False\n", "BrokenPipeError\n", "ConnectionResetError\n")
    assert tried(USER) == "True\n"


def test_root_runs_one_file_in_the_machines_own_python(tmp_path: Path) -> None:
    [keeper] = [
        part for part in services_by_machine(SCALED)["machine-b"].services if part.role == "keeper"
    ]
    [kept] = with_program([keeper.at("10.0.0.9", "/usr/bin/python3.11")])
    argv = kept.command.argv
    assert argv[:3] == ("/usr/bin/python3.11", "-I", "-S")
    assert SCALED.environment.python not in argv
    files = {file.path: file.text for file in kept.files}
    program, settings = tmp_path / "keeper.py", tmp_path / "keeper.json"
    program.write_text(files[argv[3]])
    settings.write_text(files[argv[4]].replace('"lab"', '"not a name"'))
    # Without `site` there is nothing of ours to import, and no code of any package's.
    done = subprocess.run(
        [sys.executable, "-I", "-S", program, settings], capture_output=True, text=True, check=False
    )
    expected = (
        f"{settings}: cluster is missing or wrong; `perennial up` or `pulumi up` writes it anew\n"
    )
    assert (done.returncode, done.stderr) == (1, expected)
    # Whoever runs it is restarted for another program.
    other = replace(kept, files=(File(argv[3], "other"), *kept.files[:-1]))
    assert fingerprint(other) != fingerprint(kept)
    assert with_program([kept]) == (kept,)


def test_roots_part_imports_the_standard_library_alone() -> None:
    code = (
        "import sys, perennial.platforms.hosts.agent.keeper\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(names - sys.stdlib_module_names - before))\n"
    )
    # What `site` itself loads, such as the finder of an editable installation, is not ours.
    whole = f"import sys; before = {{n.partition('.')[0] for n in sys.modules}}\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", whole], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['perennial']\n"
