"""A machine that is starting, against a real sshd that starts late."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.errors import FleetError
from perennial.ssh import Hop, Session, UnreachableError, Wait
from perennial.ssh import keys as texts
from tests.homes import wait_until
from tests.ports import free_port
from tests.ssh.sshd import MISSING, Place, keygen, make_place
from tests.ssh.test_faults import answering

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)


@contextmanager
def later(place: Place, seconds: float) -> Iterator[None]:
    """The sshd that is off starts after some seconds."""
    timer = threading.Timer(seconds, place.sshd.start)
    timer.start()
    yield
    timer.join()


def refused(target: Hop, wait: Wait, kind: type[FleetError] = FleetError) -> tuple[str, float]:
    """Fail to connect, in one line; says which, and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(kind) as caught, Session(target, 5.0, wait):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value), time.monotonic() - begun


def test_an_sshd_that_starts_seconds_later(place: Place) -> None:
    place.sshd.stop()
    said: list[str] = []
    with later(place, 2.0), Session(place.target, 5.0, Wait(60, said.append)) as session:
        assert session.start("true").wait() == 0
    assert said[0].startswith("waiting for machine-b (127.0.0.1): connection refused, 0 s of 60 s")
    assert len(said) > 1


def test_whoever_does_not_wait_is_told_at_once(place: Place) -> None:
    place.sshd.stop()
    with pytest.raises(UnreachableError, match="refused the connection"), Session(place.target):
        pass


def test_a_machine_that_never_answers(place: Place) -> None:
    place.sshd.stop()
    text, took = refused(place.target, Wait(3, lambda _text: None), UnreachableError)
    assert "127.0.0.1 refused the connection to port" in text
    port = place.sshd.port
    assert f"ssh said last: connect to host 127.0.0.1 port {port}: Connection refused" in text
    assert 1 < took < 30


def test_a_port_that_closes_every_connection(place: Place) -> None:
    said: list[str] = []
    with answering(b"") as port:
        text, _ = refused(replace(place.target, port=port), Wait(3, said.append), UnreachableError)
    assert "ended the connection before the login" in text
    assert "tried for" in text
    assert said


def test_a_name_that_does_not_resolve_yet(place: Place) -> None:
    said: list[str] = []
    refused(Hop("vm", "vm.invalid"), Wait(2, said.append), UnreachableError)
    assert said


def test_another_host_key_is_never_waited_for(place: Place) -> None:
    """Not even by whoever has begun to wait."""
    place.known.write_text("")
    said: list[str] = []
    text, _ = refused(place.target, Wait(120, said.append))
    assert "host key is not known" in text
    assert not said
    place.sshd.stop()
    other = keygen(place.root / "other").with_name("other.pub").read_text()
    target = replace(place.target, host_key=other)
    with later(place, 2.0):
        text, took = refused(target, Wait(120, said.append))
    assert "found the host key ssh-ed25519 SHA256:" in text
    assert texts.fingerprints(other) in text
    assert said
    assert took < 60


def test_a_user_who_is_made_late(place: Place) -> None:
    """A machine that was seen to be starting may make its users after its sshd."""
    authorized = place.sshd.folder / "authorized"
    keys = authorized.read_text()
    authorized.write_text("")
    said: list[str] = []
    text, _ = refused(place.target, Wait(120, said.append))
    assert "was denied" in text
    assert not said
    place.sshd.stop()

    def comes() -> None:
        wait_until(lambda: said)
        place.sshd.start()
        wait_until(lambda: any("permission denied" in line for line in said))
        authorized.write_text(keys)

    thread = threading.Thread(target=comes)
    thread.start()
    with Session(place.target, 5.0, Wait(60, said.append)):
        pass
    thread.join()
    assert "connection refused" in said[0]


def test_a_jump_host_that_starts_later(place: Place) -> None:
    bastion = place.another("bastion")
    bastion.stop()
    target = replace(place.target, jump=f"127.0.0.1:{bastion.port}")
    said: list[str] = []
    timer = threading.Timer(2.0, bastion.start)
    timer.start()
    with Session(target, 5.0, Wait(60, said.append)):
        pass
    timer.join()
    assert "connection refused" in said[0]


WAITING = """
import sys
from perennial import ssh
from perennial.errors import FleetError
target = ssh.Hop("machine-b", "127.0.0.1", port=int(sys.argv[1]))
import threading, time
def cancel():
    sys.stdin.readline()
    ssh.cancel()
threading.Thread(target=cancel, daemon=True).start()
try:
    with ssh.Session(target, 300.0, ssh.Wait(600, lambda text: print(text, flush=True))):
        pass
except FleetError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("how", ["cancel", "cancel while ssh hangs", "interrupt"])
def test_what_ends_the_wait(place: Place, how: str) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        hangs = how == "cancel while ssh hangs"
        port = int(silent.getsockname()[1]) if hangs else free_port()
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if hangs:
            peer = stack.enter_context(silent.accept()[0])  # ssh waits for a greeting
            assert peer.recv(4) == b"SSH-"
        else:
            assert "connection refused" in process.stdout.readline()
        if how == "interrupt":
            process.send_signal(signal.SIGINT)
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        process.wait(100)  # neither the wait nor an attempt of ssh's would have ended by then
        rest = process.stdout.read()
        process.stdin.close()
        process.stdout.close()
        if how != "interrupt":
            assert "machine-b (127.0.0.1): cancelled while waiting" in rest.splitlines()[-1]


HANGING = """
import sys
from pathlib import Path
from perennial import ssh
text = Path(sys.argv[2]).read_text()
target = ssh.Hop("machine-b", "127.0.0.1", port=int(sys.argv[1]), private_key=text)
with ssh.Session(target, 60.0):
    pass
"""


def left_behind() -> list[Path]:
    return [path for path in Path("/tmp").glob("perennial-ssh-*/*.key") if path.is_file()]


def test_the_text_of_a_key_is_in_a_file_for_the_login_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = place.root / "elsewhere"
    place.key.rename(key)
    target = replace(place.target, private_key=key.read_text().rstrip("\n"))
    assert "PRIVATE" not in repr(target)
    with Session(target) as session:
        channel = session.start("echo in")
        assert channel.readline() == b"in\n"
        folder = session.master.socket.parent
        assert not [path for path in folder.iterdir() if path.suffix == ".key"]
        for path in folder.iterdir():
            if path.is_file():
                assert "PRIVATE KEY" not in path.read_text(errors="replace"), path
    stranger = keygen(place.root / "stranger")
    denied = replace(target, private_key=stranger.read_text())
    with pytest.raises(FleetError) as caught, Session(denied):
        pass
    assert "tried `private_key`; add its public half" in str(caught.value)
    assert "perennial-ssh-" not in str(caught.value)


def test_the_text_of_a_key_that_was_left_by_a_kill(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        argv = [sys.executable, "-c", HANGING, str(silent.getsockname()[1]), str(place.key)]
        process = subprocess.Popen(argv)
        peer, _ = silent.accept()
        own = [path for path in left_behind() if f"-{process.pid}-" in str(path)]
        assert len(own) == 1
        assert own[0].stat().st_mode & 0o777 == 0o600
        command = subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
        assert "PRIVATE KEY" not in command
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        peer.close()
        assert own[0].exists()
        # Whoever connects next removes it.
        with Session(place.target):
            pass
        assert not own[0].exists()
