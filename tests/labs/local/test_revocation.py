"""One certificate a person: revoked it is refused at once and for good, and nobody else notices."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial import certificates
from tests.dask_processes import environment, python
from tests.homes import PERENNIAL, Home, make_home, wait_until

pytestmark = pytest.mark.lab

ASK = (
    "from distributed import Client\n"
    "with Client(timeout=60) as client:\n"
    "    print(client.submit(sum, [1, 2]).result(60))\n"
)
#: As long as the cluster stands, this asks it something, and ends when it is refused.
STAY = (
    "from distributed import Client\n"
    "import time\n"
    "client = Client()\n"
    "print('there', flush=True)\n"
    "while client.status == 'running': time.sleep(0.1)\n"
    "print(client.status, flush=True)\n"
    "import os; os._exit(0)\n"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Home]:
    for home in make_home():
        home.spec["workers"]["cpu"]["count"] = 1
        home.write()
        home.up("--no-connect")
        yield home


class Person:
    """Somebody with a home of their own and a bundle."""

    def __init__(self, cluster: Home, name: str | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
        self.bundle = self.home / "lab.bundle"
        named = () if name is None else ("--for", name)
        cluster.run("connect", "lab", "--export", str(self.bundle), *named)
        self.read()

    def read(self, *words: str) -> None:
        done = subprocess.run(
            [PERENNIAL, "connect", str(self.bundle), *words],
            env=environment(self.home),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    @property
    def tls(self) -> Path:
        return self.home / ".local/state/perennial/connections.d/lab"

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.tls / "ca.pem"))
        context.load_cert_chain(self.tls / "client.pem", self.tls / "client-key.pem")
        context.check_hostname = False
        return context

    def heard(self, port: int) -> bytes:
        """What a port says first of Dask's to a new connection; nothing where it is refused."""
        try:
            plain = socket.create_connection(("127.0.0.1", port), timeout=30)
            with plain, self.context().wrap_socket(plain) as tls:
                return tls.recv(8)
        except (ssl.SSLError, ConnectionError):
            return b""

    def works(self) -> bool:
        return python(ASK, self.home) == "3"


@pytest.fixture
def ada(cluster: Home) -> Iterator[Person]:
    person = Person(cluster, "ada@example.org")
    yield person
    shutil.rmtree(person.home)


@pytest.fixture
def bob(cluster: Home) -> Iterator[Person]:
    person = Person(cluster, "bob")
    yield person
    shutil.rmtree(person.home)


def ports(cluster: Home) -> set[int]:
    """Ports of every scheduler, nanny and worker: whoever gets in at one runs code."""
    import psutil

    found = set()
    for process in cluster.processes():
        for each in process.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN:
                found.add(each.laddr.port)
    dashboard = cluster.spec["scheduler"]["dashboard_port"]
    # The pages of nannies and of the scheduler speak HTTP, to everybody.
    return {port for port in found - {dashboard} if not speaks_http(port)}


def speaks_http(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        try:
            return plain.recv(4) == b"HTTP"
        except OSError:
            return False


def test_a_certificate_names_its_person_and_is_recorded(cluster: Home, ada: Person) -> None:
    record = cluster.state / "tls" / "issued.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    cert = (ada.tls / "client.pem").read_bytes()
    last = json.loads(record.read_text())[-1]
    assert last["person"] == "ada@example.org"
    assert int(last["serial"], 16) == certificates.serial(cert)
    own = cluster.state / "tls" / "client-key.pem"
    assert (ada.tls / "client-key.pem").read_bytes() != own.read_bytes()
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_pem_x509_certificate(cert).subject
    assert subject.get_attributes_for_oid(NameOID.USER_ID)[0].value == "ada@example.org"
    # The role is not for the person to choose.
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "client"
    said = cluster.run("connect", "lab", "--export", str(ada.home / "x"), "--for", "a\nb", code=1)
    assert "not a name for a certificate" in said


def test_who_is_revoked_is_shut_out_and_nobody_else(
    cluster: Home, ada: Person, bob: Person
) -> None:
    scheduler = cluster.spec["scheduler"]["port"]
    everywhere = ports(cluster)
    assert scheduler in everywhere
    assert len(everywhere) >= 3
    assert all(ada.heard(port) for port in everywhere)
    assert ada.works()
    stays = subprocess.Popen(
        [sys.executable, "-c", STAY],
        env=environment(ada.home),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert stays.stdout is not None
    assert stays.stdout.readline() == "there\n"
    # A handshake that has begun, and a session that could be resumed.
    stalled = socket.create_connection(("127.0.0.1", scheduler), timeout=30)
    resuming = ada.context()
    with (
        socket.create_connection(("127.0.0.1", scheduler), timeout=30) as plain,
        resuming.wrap_socket(plain) as tls,
    ):
        assert tls.recv(8)
        session = tls.session
    assert session is not None

    before = cluster.pid("scheduler")
    said = cluster.run("revoke", "ada@example.org")
    assert said == (
        "lab: ada@example.org is refused within seconds, and connections that stand are closed\n"
    )
    # The connection that stands is closed, and the client does not get in again.
    status, _ = stays.communicate(timeout=120)
    assert status.strip() in ("connecting", "closing", "closed")
    for port in everywhere:
        wait_until(lambda port=port: not ada.heard(port), 30)
    assert refused(stalled, ada.context(), None)
    again = socket.create_connection(("127.0.0.1", scheduler), timeout=30)
    assert refused(again, resuming, session)
    assert not ada.works()
    assert bob.works()
    assert cluster.pid("scheduler") == before
    # Said again, it is said.
    assert "it was revoked before" in cluster.run("revoke", "ada@example.org")

    # Renewed certificates, a second one revoked within the second, and a restart change nothing.
    cluster.run("rotate")
    eve = Person(cluster, "eve")
    assert eve.works()
    cluster.run("revoke", "eve")
    wait_until(lambda: not eve.heard(scheduler), 30)
    assert not eve.works()
    cluster.run("restart", "scheduler", "--force")
    wait_until(lambda: bob.heard(scheduler))
    assert bob.works()
    assert not ada.heard(scheduler)
    assert not ada.works()
    assert not eve.works()
    shutil.rmtree(eve.home)


def refused(plain: socket.socket, context: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    """Whether a connection is closed before Dask says anything on it."""
    try:
        with plain, context.wrap_socket(plain, session=session) as tls:
            return tls.recv(8) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_a_name_that_has_none_is_said(cluster: Home, bob: Person) -> None:
    said = cluster.run("revoke", "nobody", code=1)
    assert "'nobody': no certificate has this name in lab; there is bob" in said
    assert "`perennial rotate --ca` makes all bundles invalid" in said


def test_a_list_that_was_removed_is_made_again(cluster: Home) -> None:
    listed = cluster.state / "tls" / "revoked.pem"
    listed.unlink(missing_ok=True)
    person = Person(cluster, "mia")
    cluster.run("revoke", "mia")
    listed.unlink()
    (cluster.state / "tls" / "client.pem").unlink()
    cluster.up("--no-connect")
    assert listed.exists()
    cluster.run("restart", "scheduler", "--force")
    assert not person.works()
    shutil.rmtree(person.home)


def test_a_new_authority_shuts_everybody_out(cluster: Home, bob: Person) -> None:
    anybody = Person(cluster)
    assert anybody.works()
    before = cluster.pid("scheduler"), cluster.pid("cpu-0")
    old = (cluster.state / "tls" / "ca-key.pem").read_bytes()
    keys = {path: path.read_bytes() for path in (cluster.state / "tls").glob("*.pem")}
    # Where nobody can be asked, the loss is not taken for granted.
    said = cluster.run("rotate", "--ca", code=1)
    assert "! restart scheduler    new authority; ALL RUNNING WORK AND RESULTS" in said
    assert "add --force to continue" in said
    assert {path: path.read_bytes() for path in keys} == keys

    said = cluster.run("rotate", "--ca", "--force")
    assert "a new authority, and new keys for every service" in said
    assert (cluster.state / "tls" / "ca-key.pem").read_bytes() != old
    assert not any(path.exists() and path.read_bytes() == text for path, text in keys.items())
    assert {path.name for path in cluster.state.glob("tls*")} == {"tls"}
    after = cluster.pid("scheduler"), cluster.pid("cpu-0")
    assert all(after)
    assert not set(before) & set(after)
    assert not any(person.heard(port) for port in ports(cluster) for person in (anybody, bob))
    assert not anybody.works()
    assert not bob.works()
    assert cluster.workers() == {"cpu-0"}
    # Their old certificates are nobody's any more, and a new bundle asks before it is taken.
    assert "there is none for anybody" in cluster.run("revoke", "bob", code=1)
    cluster.run("connect", "lab", "--export", str(bob.bundle), "--for", "bob", "--replace")
    bob.read("--replace")
    assert bob.works()
    assert "nothing to change" in cluster.up("--no-connect")
    shutil.rmtree(anybody.home)
