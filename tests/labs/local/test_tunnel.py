"""`perennial connect --ssh`: a real cluster, reached through a real sshd."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.homes import PERENNIAL, Home, environment_of, run, wait_until
from tests.ports import free_ports
from tests.ssh.sshd import MISSING, USER, Place, keygen, make_place

pytestmark = [
    pytest.mark.lab,
    pytest.mark.smoke,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

#: Uses a cluster, and says to which ports it has spoken.
WORK = """
import psutil
from distributed import Client
from urllib.parse import urlsplit

with Client(timeout=20) as client:
    assert client.submit(sum, [1, 2, 3]).result() == 6
    data = client.scatter(bytes(5_000_000))
    assert len(client.submit(lambda x: x + x, data).result()) == 10_000_000
    ports = {each.raddr.port for each in psutil.Process().net_connections() if each.raddr}
    print(*ports, client.dashboard_link)
"""


class Laptop:
    """A user with a home of their own, who knows the cluster by a bundle alone."""

    def __init__(self, place: Place, bundle: Path) -> None:
        self.place = place
        self.bundle = bundle
        self.bastion = f"{USER}@127.0.0.1:{place.sshd.port}"
        self.state = place.root / "s" / "perennial"
        self.environment = environment_of(place.root)

    def run(self, *words: str, code: int = 0) -> str:
        return run(PERENNIAL, *words, environment=self.environment, code=code)

    def connect(self, *words: str, code: int = 0) -> str:
        return self.run("connect", str(self.bundle), "--ssh", self.bastion, *words, code=code)

    def work(self) -> str:
        said = run(sys.executable, "-c", WORK, environment=self.environment, apart=True)
        return said.strip()

    @property
    def folder(self) -> Path:
        return self.state / "tunnels.d" / "lab"

    def pids(self) -> list[int]:
        """Processes of the tunnel."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("HOME") == str(self.place.root)
                if mine and "perennial.tunnel" in process.cmdline():
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def port(self) -> int:
        """The local port that leads to the scheduler."""
        kept = json.loads((self.folder / "tunnel.json").read_text())
        return int(kept["forwards"][0]["local"])


@pytest.fixture
def laptop(standing: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    for place in make_place(monkeypatch):
        bundle = place.root / "lab.json"
        standing.run("connect", "lab", "--export", str(bundle))
        made = Laptop(place, bundle)
        yield made
        for pid in made.pids():
            os.kill(pid, signal.SIGKILL)


def test_client_works_from_a_laptop_without_a_route(laptop: Laptop, standing: Home) -> None:
    said = laptop.connect()
    port = laptop.port()
    there = standing.spec["scheduler"]["port"]
    assert port != there  # that one is in use on this machine
    assert f"tls://127.0.0.1:{port}, tunnel through {laptop.bastion} ({port} →" in said
    assert "connected" in said
    assert "warning" not in said
    # The tunnel and nothing else: results come through the scheduler.
    assert laptop.work().split()[0] == str(port)
    assert f"DASK_SCHEDULER_ADDRESS=tls://127.0.0.1:{port}\n" in laptop.run("env")
    assert (laptop.folder / "log").stat().st_mode & 0o077 == 0

    before = laptop.pids()
    assert len(before) == 1
    laptop.connect()
    assert laptop.pids() == before, "twice is once"
    assert laptop.port() == port

    assert "the tunnel to lab is closed" in laptop.run("disconnect")
    assert laptop.pids() == []
    assert not (laptop.folder / "tunnel.json").exists()
    assert "not connected" in laptop.run("disconnect")
    # Without --ssh it is the bundle's own address again.
    assert f"tls://127.0.0.1:{there}" in laptop.run("connect", "lab")


def test_a_dead_tunnel_comes_back_with_connect(laptop: Laptop) -> None:
    laptop.connect()
    port, (pid,) = laptop.port(), laptop.pids()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not laptop.pids())
    assert "not running; `perennial connect lab` starts it" in laptop.run("env")
    laptop.run("connect")
    assert laptop.port() == port
    assert laptop.work().split()[0] == str(port)
    assert "the tunnel to lab is closed" in laptop.run("disconnect", "-c", "lab")


def test_a_bastion_that_goes_and_comes_back(laptop: Laptop) -> None:
    laptop.connect()
    (pid,) = laptop.pids()
    laptop.place.sshd.stop()
    log = laptop.folder / "log"
    wait_until(lambda: "refused" in log.read_text())
    laptop.place.sshd.start()
    # Whoever connects need not wait for the next try.
    assert laptop.work().split()[0] == str(laptop.port())
    assert laptop.pids() == [pid]
    assert len(re.findall("connected$", log.read_text(), re.MULTILINE)) == 2
    # A stopped service gives its ports back and ends.
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not laptop.pids())
    laptop.run("disconnect")


def test_another_bastion_takes_its_place(laptop: Laptop) -> None:
    laptop.connect()
    (first,) = laptop.pids()
    port = laptop.port()
    other = laptop.place.another("other")
    laptop.bastion = f"{USER}@127.0.0.1:{laptop.place.sshd.port},127.0.0.1:{other.port}"
    assert f"through {laptop.bastion}" in laptop.connect()
    (second,) = laptop.pids()
    assert second != first
    assert laptop.port() == port
    assert laptop.work().split()[0] == str(port)
    laptop.run("disconnect")


def test_what_cannot_work_is_said_at_once(laptop: Laptop, standing: Home) -> None:
    place, bastion = laptop.place, laptop.bastion

    def fails(*words: str) -> None:
        said = laptop.connect(code=1)
        assert len(said.splitlines()) <= 2, said  # what it does, and why it cannot
        assert "Traceback" not in said
        for word in words:
            assert word in said.splitlines()[-1], said
        assert laptop.pids() == []
        assert not (place.root / ".config" / "dask" / "perennial.yaml").exists()

    place.known.write_text("")
    fails("host key is not known")
    place.known.write_text(place.sshd.known())
    authorized = place.sshd.folder / "authorized"
    mine = authorized.read_text()
    authorized.write_text(keygen(place.root / "x").with_name("x.pub").read_text())
    fails("login as", "was denied")
    authorized.write_text(mine)
    closed = place.another("closed", "AllowTcpForwarding no")
    laptop.bastion = f"127.0.0.1:{closed.port}"
    fails("cannot connect to the scheduler at", "AllowTcpForwarding")
    laptop.bastion = f"127.0.0.1:{free_ports(1)[0]}"
    fails("refused the connection")
    laptop.bastion = "me@"
    fails("is no host to connect through")
    said = laptop.run("connect", "--ssh", bastion, "--export", "x", str(laptop.bundle), code=1)
    assert "a bundle holds no tunnel" in said
