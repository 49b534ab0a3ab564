"""A real sshd on loopback with keys of its own, and a home whose ``~/.ssh`` fits to it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from perennial.errors import FleetError, PerennialError
from perennial.ssh import Hop, Session, close
from perennial.ssh.folder import VARIABLE
from tests.ports import free_port

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
#: Why tests with a real sshd cannot run here; empty when they can.
MISSING = "" if SSHD and shutil.which("ssh-keygen") else "openssh-server is not installed"
USER = getpass.getuser()


def keygen(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)],
        check=True,
    )
    return path


class Sshd:
    """An sshd whose users are this user alone.

    Parameters
    ----------
    folder : pathlib.Path
        For its keys, its configuration and its log.
    authorized : pathlib.Path
        Private key whose public half may log in.
    more : str
        More lines of its configuration.
    """

    def __init__(self, folder: Path, authorized: Path, more: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.key = keygen(folder / "host_key")
        shutil.copy(authorized.with_name(authorized.name + ".pub"), folder / "authorized")
        self.port = free_port()
        self._config = folder / "sshd_config"
        self._config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.key}\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nSetEnv HOME={folder}\n{more}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self._config)], stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.02)

    def connections(self) -> list[int]:
        """Processes of the open connections."""
        import psutil

        assert self.process is not None
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def cut(self) -> None:
        """End every connection at once, as a crash of the machine would."""
        import psutil

        for pid in self.connections():
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> None:
        """End it and its connections."""
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None

    def known(self, host: str = "127.0.0.1") -> str:
        """Its line for a file of known hosts."""
        kind, key, *_ = self.key.with_name("host_key.pub").read_text().split()
        return f"[{host}]:{self.port} {kind} {key}\n"


class Meter:
    """A port that leads to an sshd, and counts what is on the wire."""

    def __init__(self, place: Place) -> None:
        self.sent = self.received = 0
        self._there = ("127.0.0.1", place.sshd.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port = int(self._server.getsockname()[1])
        with place.known.open("a") as file:
            file.write(place.sshd.known().replace(f":{place.sshd.port}", f":{self.port}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._ends:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(self._there)
                self._ends += here, there
                for ends in ((here, there, True), (there, here, False)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, outwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if outwards:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class Place:
    """A home with a key, and an sshd that this key may log in to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ssh = root / ".ssh"
        self.key = keygen(self.ssh / "id_ed25519")
        self.sshd = Sshd(root / "d", self.key)
        self.known = self.ssh / "known_hosts"
        self.known.write_text(self.sshd.known())
        self.servers = [self.sshd]

    @property
    def target(self) -> Hop:
        return Hop("machine-b", "127.0.0.1", port=self.sshd.port)

    def another(self, name: str, more: str = "") -> Sshd:
        server = Sshd(self.root / name, self.key, more)
        self.servers.append(server)
        with self.known.open("a") as file:
            file.write(server.known())
        return server


def masters() -> list[int]:
    """Processes of `ssh` that hold a connection of this run: each has a socket of its own."""
    folder, found = os.environ.get(VARIABLE, ""), []
    for process in Path("/proc").glob("[0-9]*") if folder else ():
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].startswith(b"ssh") and folder.encode() in b" ".join(words):
                found.append(int(process.name))
    return found


def make_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Make a place in a short folder, and leave nothing of it."""
    root = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    root.chmod(0o755)
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    close()
    monkeypatch.delenv(VARIABLE, raising=False)
    made = Place(root)
    try:
        yield made
    finally:
        close()
        for server in made.servers:
            server.stop()
        shutil.rmtree(root, ignore_errors=True)


def says(target: Hop, *words: str, kind: type[PerennialError] = FleetError) -> str:
    """Fail to connect, in one line that holds these words."""
    with pytest.raises(kind) as caught, Session(target, 5.0):
        pass
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


def ssh_processes() -> list[str]:
    """Commands of the `ssh` that this process has started, wherever they run now."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if f"perennial-ssh-{os.getpid()}-" in command:
                found.append(command)
    return found
