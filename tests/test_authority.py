"""The certificates, proved by real TLS handshakes and by real Dask processes."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cryptography import x509

from perennial import authority, certificates
from perennial.authority import ROLES
from perennial.errors import PerennialError

NAMES = ("192.0.2.7", "2001:db8::1", "machine.example.org")
#: In the order in which they are written.
FILES = ("ca-key", "ca", *(f"{role}{end}" for role in ROLES for end in ("-key", "")))


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    assert authority.ensure(folder, "lab", NAMES)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another cluster of the same name."""
    folder = tmp_path_factory.mktemp("other") / "tls"
    authority.ensure(folder, "lab", NAMES)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cert(folder: Path, role: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{role}.pem").read_bytes())


def handshake(server: tuple[Path, str], client: tuple[Path, str | None], name: str) -> None:
    """A whole handshake in memory, both sides strict, the client comparing the name."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = []
    for (folder, role), server_side in ((server, True), (client, False)):
        kind = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(kind)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(folder / "ca.pem")
        if role is not None:
            context.load_cert_chain(folder / f"{role}.pem", folder / f"{role}-key.pem")
        pipes = (inward, outward) if server_side else (outward, inward)
        hostname = None if server_side else name
        sides.append(context.wrap_bio(*pipes, server_side=server_side, server_hostname=hostname))
    waiting = list(sides)
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", *NAMES])
@pytest.mark.parametrize("roles", [("scheduler", "client"), ("worker", "scheduler")])
def test_the_right_certificates_shake_hands(tls: Path, roles: tuple[str, str], name: str) -> None:
    handshake((tls, roles[0]), (tls, roles[1]), name)


@pytest.mark.parametrize("role", ["scheduler", "worker", "client"])
def test_another_clusters_certificate_is_refused(tls: Path, other: Path, role: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake((tls, "scheduler"), (other, role), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake((other, "scheduler"), (tls, role), "localhost")


def test_a_client_without_certificate_is_refused(tls: Path) -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake((tls, "scheduler"), (tls, None), "localhost")


def test_a_clients_certificate_cannot_stand_for_a_server(tls: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        handshake((tls, "client"), (tls, "scheduler"), "localhost")


def test_a_name_that_was_not_given_is_refused(tls: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake((tls, "scheduler"), (tls, "client"), "elsewhere.example.org")


def test_a_certificate_cannot_sign_another(tls: Path) -> None:
    leaf = cert(tls, "scheduler").extensions.get_extension_for_class(x509.BasicConstraints)
    root = cert(tls, "ca").extensions.get_extension_for_class(x509.BasicConstraints)
    assert (leaf.critical, leaf.value.ca) == (True, False)
    assert (root.critical, root.value.ca, root.value.path_length) == (True, True, 0)


def test_names_and_dates(tls: Path) -> None:
    now = datetime.now(UTC)
    for role, life in (("ca", 3650), ("scheduler", 365), ("worker", 365), ("client", 365)):
        found = cert(tls, role)
        assert found.subject.rfc4514_string() == f"CN={role},O=dask-perennial lab"
        assert found.issuer.rfc4514_string() == "CN=ca,O=dask-perennial lab"
        assert timedelta(minutes=4) < now - found.not_valid_before_utc < timedelta(minutes=7)
        left = found.not_valid_after_utc - now
        assert timedelta(days=life, minutes=-2) < left <= timedelta(days=life)
        assert authority.expiry(tls)[role] == found.not_valid_after_utc


def test_the_longest_name_of_a_cluster_fits(tmp_path: Path) -> None:
    assert authority.ensure(tmp_path, "a" * 40, ())


def test_a_name_outside_ascii_is_written_as_dns_has_it(tmp_path: Path) -> None:
    authority.ensure(tmp_path, "lab", ("Rechner.münchen.example",))
    handshake((tmp_path, "scheduler"), (tmp_path, "client"), "rechner.xn--mnchen-3ya.example")
    assert not authority.ensure(tmp_path, "lab", ("Rechner.münchen.example",))


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PerennialError, match=r"is no host name: .* give an IP address"):
        authority.ensure(tmp_path, "lab", (name,))


def test_files_are_private(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        authority.ensure(tmp_path / "tls", "lab", ())
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_a_whole_set_is_left_as_it_is(tls: Path) -> None:
    before = contents(tls)
    assert not authority.ensure(tls, "lab", NAMES)
    assert not authority.ensure(tls, "lab", NAMES[:1])
    assert contents(tls) == before


@pytest.mark.parametrize("written", range(len(FILES)))
def test_what_was_cut_off_is_finished(tls: Path, written: int) -> None:
    """Files are written whole and in this order, so these are all the states it can stop in."""
    kept = [f"{name}.pem" for name in FILES[:written]]
    for path in tls.iterdir():
        if path.name not in kept:
            path.unlink()
    before = contents(tls)
    assert authority.ensure(tls, "lab", NAMES)
    assert {path.name for path in tls.iterdir()} == {f"{name}.pem" for name in FILES}
    assert {name: content for name, content in contents(tls).items() if name in kept} == before
    handshake((tls, "scheduler"), (tls, "client"), "localhost")
    handshake((tls, "worker"), (tls, "scheduler"), "localhost")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda tls: (tls / "worker.pem").unlink(), id="missing"),
        pytest.param(lambda tls: (tls / "worker-key.pem").unlink(), id="key missing"),
        pytest.param(lambda tls: (tls / "worker.pem").write_bytes(b"half a"), id="damaged"),
        pytest.param(lambda tls: (tls / "worker-key.pem").write_bytes(b"-"), id="key damaged"),
        pytest.param(
            lambda tls: (tls / "worker-key.pem").write_bytes((tls / "ca-key.pem").read_bytes()),
            id="another's key",
        ),
        pytest.param(
            lambda tls: [
                (tls / f"worker{end}").write_bytes((tls.parent / f"worker{end}").read_bytes())
                for end in (".pem", "-key.pem")
            ],
            id="of another authority",
        ),
    ],
)
def test_only_what_is_of_no_use_is_made_again(tls: Path, spoil: Callable[[Path], object]) -> None:
    authority.ensure(tls.parent, "lab", NAMES)  # another authority, beside it
    before = contents(tls)
    spoil(tls)
    assert authority.ensure(tls, "lab", NAMES)
    changed = {name for name, content in contents(tls).items() if content != before[name]}
    assert changed <= {"worker.pem", "worker-key.pem"}
    handshake((tls, "worker"), (tls, "scheduler"), "localhost")


def test_a_new_name_makes_the_servers_certificates_again(tls: Path) -> None:
    before = contents(tls)
    assert authority.ensure(tls, "lab", (*NAMES, "198.51.100.9"))
    changed = {name for name, content in contents(tls).items() if content != before[name]}
    assert changed == {"scheduler.pem", "worker.pem"}
    handshake((tls, "worker"), (tls, "client"), "198.51.100.9")


def age(tls: Path, by: timedelta, authority_too: bool = False) -> None:
    """Make a folder's certificates as they would be if it were older."""
    then = datetime.now(UTC) - by
    key = (tls / "ca-key.pem").read_bytes()
    pair = certificates.make_authority("lab", then, key)
    (tls / "ca.pem").write_bytes(pair.cert)
    for role in ROLES:
        old = (tls / f"{role}-key.pem").read_bytes()
        made = certificates.make_certificate(pair, role, NAMES, then, old)
        (tls / f"{role}.pem").write_bytes(made.cert)
    if not authority_too:
        new = certificates.make_authority("lab", datetime.now(UTC), key)
        (tls / "ca.pem").write_bytes(new.cert)


def test_expired_certificates_are_made_again(tls: Path) -> None:
    age(tls, timedelta(days=364))
    assert not authority.ensure(tls, "lab", NAMES)
    age(tls, timedelta(days=366))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake((tls, "scheduler"), (tls, "client"), "localhost")
    assert authority.ensure(tls, "lab", NAMES)
    handshake((tls, "scheduler"), (tls, "client"), "localhost")


def test_no_certificate_outlives_the_authority(tls: Path) -> None:
    key = (tls / "ca-key.pem").read_bytes()
    old = certificates.make_authority("lab", datetime.now(UTC) - timedelta(days=3600), key)
    (tls / "ca.pem").write_bytes(old.cert)
    authority.renew(tls, "lab", NAMES)
    assert set(authority.expiry(tls).values()) == {authority.expiry(tls)["ca"]}


def test_an_expired_authority_is_said(tls: Path) -> None:
    age(tls, timedelta(days=3651), authority_too=True)
    for action in (authority.ensure, authority.renew):
        with pytest.raises(PerennialError, match=r"authority of lab expired on .*; take the clus"):
            action(tls, "lab", NAMES)


def test_the_authority_is_never_replaced_under_its_certificates(tls: Path) -> None:
    (tls / "ca-key.pem").unlink()
    # The key may be kept elsewhere as long as nothing is to be signed.
    assert not authority.ensure(tls, "lab", NAMES)
    (tls / "worker.pem").unlink()
    before = contents(tls)
    for action in (authority.ensure, authority.renew):
        with pytest.raises(PerennialError, match=r"ca-key.pem: found .* missing .* restore it"):
            action(tls, "lab", NAMES)
    (tls / "ca.pem").unlink()
    with pytest.raises(PerennialError, match=r"ca-key.pem: found .* missing"):
        authority.ensure(tls, "lab", NAMES)
    assert contents(tls) == {name: pem for name, pem in before.items() if name != "ca.pem"}


def test_a_key_of_another_authority_is_said(tls: Path, other: Path) -> None:
    (tls / "ca-key.pem").write_bytes((other / "ca-key.pem").read_bytes())
    with pytest.raises(PerennialError, match=r"of another authority than ca\.pem"):
        authority.renew(tls, "lab", NAMES)


def test_a_lost_authority_certificate_is_made_again_from_its_key(tls: Path) -> None:
    before = contents(tls)
    (tls / "ca.pem").unlink()
    assert authority.ensure(tls, "lab", NAMES)
    after = contents(tls)
    assert certificates.same_authority(before["ca.pem"], after["ca.pem"])
    assert {name for name in after if after[name] != before[name]} == {"ca.pem"}
    handshake((tls, "scheduler"), (tls, "client"), "localhost")


def test_renewing_keeps_authority_and_keys(tls: Path) -> None:
    age(tls, timedelta(days=100))
    before, ends = contents(tls), authority.expiry(tls)
    authority.renew(tls, "lab", NAMES)
    after = contents(tls)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"scheduler.pem", "worker.pem", "client.pem"}
    for role in ROLES:
        assert authority.expiry(tls)[role] - ends[role] > timedelta(days=99)


def test_renewing_never_shows_a_pair_that_does_not_fit(tls: Path) -> None:
    faults: list[Exception] = []
    reads = 0
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        while not done.is_set():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.load_cert_chain(tls / "worker.pem", tls / "worker-key.pem")
                reads += 1
            except (ssl.SSLError, OSError) as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    renewals = 0
    try:
        while renewals < 20 or (reads <= 20 and not faults):
            authority.renew(tls, "lab", NAMES)
            renewals += 1
    finally:
        done.set()
        reader.join()
    assert not faults


def test_expiry_leaves_out_what_cannot_be_read(tls: Path) -> None:
    (tls / "client.pem").unlink()
    (tls / "worker.pem").write_text("damaged")
    assert set(authority.expiry(tls)) == {"ca", "scheduler"}
    assert authority.expiry(tls / "none") == {}


def test_local_names_are_this_machines() -> None:
    names = authority.local_names()
    assert "127.0.0.1" in names
    assert socket.gethostname() in names
    assert not [name for name in names if name.startswith("fe80") or "%" in name]
    addresses = {
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("169.254.")
    }
    assert addresses <= set(names)
    assert names == authority.local_names() == tuple(sorted(names))


def test_aliases_of_a_machine_come_from_the_hosts_file() -> None:
    hosts = "127.0.0.1 localhost\n127.0.1.1 m.example.org m # m2\n\n#192.0.2.1 m n\n192.0.2.2 o\n"
    assert authority.aliases(hosts, "m") == {"m", "m.example.org"}
    assert authority.aliases(hosts, "p") == set()
