"""What processes of one run share, who is asked, and that nothing of a run stays."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.ssh import Session
from perennial.ssh.folder import VARIABLE, folder
from tests.homes import wait_until
from tests.ssh.sshd import MISSING, USER, Place, keygen, make_place, says

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)


def test_what_the_cluster_file_names_serves_the_jump_host_too(place: Place) -> None:
    """The key and the known hosts, which ``ssh -i`` and ``-o`` would keep for the last machine."""
    bastion = place.another("bastion")
    key, known = place.key.rename(place.root / "key"), place.known.rename(place.root / "known")
    place.key.with_name("id_ed25519.pub").rename(place.root / "key.pub")
    target = replace(
        place.target,
        jump=f"{USER}@127.0.0.1:{bastion.port}",
        identity=str(key),
        known_hosts=str(known),
    )
    with Session(target) as session:
        assert session.start("true").wait() == 0


def test_no_configuration_makes_a_jump_host_trusted(place: Place) -> None:
    bastion = place.another("bastion")
    place.known.write_text(place.sshd.known())
    (place.ssh / "config").write_text("Host *\n  StrictHostKeyChecking no\n")
    via = f"127.0.0.1:{bastion.port}"
    says(replace(place.target, jump=via), f"the jump host {via}: its host key is not known")


def test_machines_behind_one_jump_host_share_its_connection(place: Place) -> None:
    bastion, other = place.another("bastion"), place.another("other")
    first = replace(place.target, jump=f"127.0.0.1:{bastion.port}")
    with Session(first):
        before = bastion.connections()
        with Session(replace(first, name="machine-c", port=other.port)) as session:
            assert session.start("true").wait() == 0
            assert bastion.connections() == before


_AGAIN = """
import sys
from perennial.ssh import Hop, Session
with Session(Hop("machine-b", "127.0.0.1", port=int(sys.argv[1]))) as session:
    assert session.start("true").wait() == 0
"""


def test_processes_of_one_run_share_a_connection(place: Place) -> None:
    """The engine of a deploy asks for no second password."""
    argv = [sys.executable, "-c", _AGAIN, str(place.sshd.port)]
    with Session(place.target) as session:
        before = place.sshd.connections()
        subprocess.run(argv, check=True)
        assert place.sshd.connections() == before
        assert session.start("true").wait() == 0
    wait_until(lambda: not place.sshd.connections())
    assert not list(folder().glob("*.log"))
    # A process that is the first of its run takes all of it down.
    found = os.environ.pop(VARIABLE)
    subprocess.run(argv, check=True)
    wait_until(lambda: not place.sshd.connections())
    os.environ[VARIABLE] = found


def test_what_a_killed_process_leaves_is_cleared_away(place: Place) -> None:
    hanging = _AGAIN + "    print(flush=True); import time; time.sleep(600)\n"
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    argv = [sys.executable, "-c", hanging, str(place.sshd.port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    (left,) = Path("/tmp").glob(f"perennial-ssh-{process.pid}-*")
    assert left.stat().st_mode & 0o077 == 0
    assert place.sshd.connections()
    with Session(replace(place.target, name="machine-c")):
        assert not left.exists()
    wait_until(lambda: not place.sshd.connections())


def test_no_ssh_program_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.root))
    says(place.target, "no program `ssh`; install OpenSSH's client", kind=PerennialError)


def test_a_person_at_a_terminal_is_asked(place: Place) -> None:
    """A key with a passphrase, which no agent has; who has no terminal gets an error instead."""
    locked = keygen(place.ssh / "locked", passphrase="secret")
    (place.sshd.folder / "authorized").write_text(locked.with_name("locked.pub").read_text())
    place.key.unlink()
    (place.ssh / "config").write_text(f"Host *\n  IdentityFile {locked}\n")
    argv = [sys.executable, "-c", _AGAIN + "    print('done')\n", str(place.sshd.port)]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
    )
    assert b"has a passphrase" in done.stderr
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(argv[0], argv)
    said = b""
    try:
        while b"done" not in said:
            said += os.read(terminal, 1000)
            if said.endswith(b": "):
                os.write(terminal, b"secret\n")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert said.count(b"passphrase for key") == 1
