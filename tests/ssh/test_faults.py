"""A machine that cannot be reached or logged in to: one line for each reason."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.ssh import Hop, Session, UnreachableError
from tests.ssh.sshd import MISSING, USER, Place, keygen, make_place, says

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)


@pytest.fixture
def agent(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    sock = str(place.root / "a")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    while not os.path.exists(sock):
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", sock)
    yield sock
    process.kill()
    process.wait()


def test_a_host_key_that_is_not_known(place: Place) -> None:
    place.known.write_text("")
    text = says(place.target, "not known: found ssh-ed25519 SHA256:")
    command = re.search(r"`(ssh-keyscan [^`]*)`", text)
    assert command is not None
    # The line that the message gives is the one that helps.
    line = command[1].replace("~", str(place.root))
    subprocess.run(line, shell=True, check=True, stderr=subprocess.DEVNULL)
    with Session(place.target):
        pass
    place.known.unlink()
    says(place.target, "not known")
    (place.ssh / "config").write_text("UserKnownHostsFile none\n")
    says(place.target, "not known")


def test_a_host_key_that_has_changed(place: Place) -> None:
    other = keygen(place.root / "other")
    kind, key, *_ = other.with_name("other.pub").read_text().split()
    place.known.write_text(f"[127.0.0.1]:{place.sshd.port} {kind} {key}\n")
    says(place.target, "CHANGED", "ssh-keygen -R '[127.0.0.1]:")
    other = keygen(place.root / "rsa", kind="rsa")
    kind, key, *_ = other.with_name("rsa.pub").read_text().split()
    place.known.write_text(f"[127.0.0.1]:{place.sshd.port} {kind} {key}\n")
    says(place.target, "CHANGED to ssh-ed25519")
    place.known.write_text("@revoked * " + place.sshd.known().split(maxsplit=1)[1])
    says(place.target, "revoked")


def test_a_file_of_known_hosts_that_the_cluster_names(place: Place) -> None:
    file = place.root / "hosts"
    place.known.rename(file)
    target = replace(place.target, known_hosts=str(file))
    with Session(target):
        pass
    file.write_text("")
    says(target, f">> {file}")
    file.write_text("what\n")
    says(target, "no list of known hosts", kind=PerennialError)
    file.unlink()
    says(target, "no file of known host keys there", kind=PerennialError)


def test_a_login_that_is_denied(place: Place) -> None:
    stranger = keygen(place.root / "stranger")
    text = says(replace(place.target, identity=str(stranger)), f"login as {USER} was denied")
    # The named key is the only one offered.
    assert str(stranger) in text
    assert "id_ed25519" not in text
    says(replace(place.target, user="ann"), "login as ann was denied")
    says(replace(place.target, identity="/none"), "/none", kind=PerennialError)
    says(replace(place.target, identity="/etc/passwd"), "no readable SSH key", kind=PerennialError)
    place.key.unlink()
    says(place.target, f"no key to log in as {USER};")


def test_a_key_with_a_passphrase(place: Place, agent: str) -> None:
    locked = keygen(place.ssh / "locked", passphrase="secret")
    shutil.copy(place.ssh / "locked.pub", place.sshd.folder / "authorized")
    target = replace(place.target, identity=str(locked))
    text = says(target, f"`ssh-add {locked}`")
    assert "secret" not in text
    subprocess.run(
        ["ssh-add", "-q", str(locked)],
        check=True,
        env={
            **os.environ,
            "SSH_ASKPASS_REQUIRE": "force",
            "SSH_ASKPASS": str(_askpass(place.root)),
            "DISPLAY": ":0",
        },
    )
    with Session(target):
        pass
    # The agent's keys serve where no key is named as well.
    place.key.unlink()
    with Session(place.target):
        pass
    subprocess.run(["ssh-add", "-q", "-D"], check=True, stderr=subprocess.DEVNULL)
    assert "id_" not in says(target, "was denied")


def _askpass(root: Path) -> Path:
    path = root / "askpass"
    path.write_text("#!/bin/sh\necho secret\n")
    path.chmod(0o700)
    return path


def test_an_agent_that_is_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place.root / "none"))
    with Session(place.target):
        pass


def test_a_machine_that_cannot_be_reached(place: Place) -> None:
    place.sshd.stop()
    says(place.target, "machine-b (127.0.0.1): 127.0.0.1 refused", kind=UnreachableError)
    says(
        Hop("machine-x", "machine-x.invalid"),
        "machine-x (machine-x.invalid): the name machine-x.invalid does not resolve",
        kind=UnreachableError,
    )


@contextmanager
def answering(words: bytes) -> Iterator[int]:
    """A port at which somebody says something to whoever comes, and goes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # it is shut down
                while True:
                    peer, _ = server.accept()
                    with peer, suppress(OSError):  # who has come is gone
                        peer.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_port_at_which_no_sshd_is(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = replace(place.target, port=int(server.getsockname()[1]))
        with pytest.raises(UnreachableError, match=r"no answer within 0.5 s"), Session(target, 0.5):
            pass
    with answering(b"") as port:
        target = replace(place.target, port=port)
        says(target, "ended the connection", kind=UnreachableError)
    with answering(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 100) as port:
        says(replace(place.target, port=port), "machine-b")
