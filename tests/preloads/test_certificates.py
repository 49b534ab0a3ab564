"""Certificates are renewed under running processes, and nobody notices."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Security

from tests.dask_processes import workers_of
from tests.preloads.conftest import KEEP, Lab, until

LOOK = "0.3 s"
PRELOADS = (
    *("--preload", "perennial.preloads.certificates"),
    *("--preload-nanny", "perennial.preloads.certificates"),
    *KEEP,
)


class Authority:
    """A certificate authority that writes certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key, ca=True)
        self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, role: str) -> tuple[int, bytes, bytes]:
        """Serial number, certificate and key, not written yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(role, key, ca=False)
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return (
            certificate.serial_number,
            certificate.public_bytes(serialization.Encoding.PEM),
            secret,
        )

    def _write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def write(self, role: str) -> int:
        """Write a new certificate and key; return its serial number."""
        serial, certificate, key = self.issue(role)
        self._write(f"{role}.pem", certificate)
        self._write(f"{role}.key", key)
        return serial

    def environment(self) -> dict[str, str]:
        """Dask's configuration of where the certificates are."""
        prefix = "DASK_DISTRIBUTED__COMM__TLS__"
        files = {f"{prefix}CA_FILE": "ca.pem"}
        for role in ("scheduler", "worker"):
            files[f"{prefix}{role.upper()}__CERT"] = f"{role}.pem"
            files[f"{prefix}{role.upper()}__KEY"] = f"{role}.key"
        return {key: str(self.folder / name) for key, name in files.items()}

    def security(self) -> Security:
        """What a client connects with."""
        return Security(
            tls_ca_file=str(self.folder / "ca.pem"),
            tls_client_cert=str(self.folder / "client.pem"),
            tls_client_key=str(self.folder / "client.key"),
            require_encryption=True,
        )

    def serial_at(self, address: str) -> int:
        """Serial number of the certificate that an address shows in a new handshake."""
        host, port = address.removeprefix("tls://").split(":")
        context = self.security().get_connection_args("client")["ssl_context"]
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain) as tls,
        ):
            return _serial(tls)


def _serial(tls: ssl.SSLSocket) -> int:
    shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


class Door:
    """A TLS port that notes the certificate of whoever connects."""

    def __init__(self, authority: Authority) -> None:
        self.context = authority.security().get_listen_args("client")["ssl_context"]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tls://127.0.0.1:{self.listener.getsockname()[1]}"

    def visitor(self, invite: Any) -> int:
        """Serial number of the certificate of the process that is invited to connect."""
        inviting = threading.Thread(target=invite, daemon=True)
        inviting.start()
        plain, _ = self.listener.accept()
        with self.context.wrap_socket(plain, server_side=True) as tls:
            serial = _serial(tls)
        inviting.join(20)
        return serial


def inviter() -> Any:
    """Make what a Dask process runs to connect to an address; it travels with its code."""

    async def connects(address: str, dask_worker: Any = None, dask_scheduler: Any = None) -> None:
        import contextlib

        from distributed.comm import connect

        server = dask_worker or dask_scheduler
        with contextlib.suppress(OSError):
            await connect(address, timeout=1, **server.connection_args)

    return connects


def test_certificates_are_renewed_under_running_processes(lab: Lab) -> None:
    authority = Authority(lab.folder / "tls")
    old = {role: authority.write(role) for role in ("scheduler", "worker", "client")}
    lab.protocol = "tls"
    lab.environment |= authority.environment()
    lab.environment["DASK_PERENNIAL__CERTIFICATES__INTERVAL"] = LOOK
    lab.scheduler("--preload", "perennial.preloads.certificates")
    lab.worker("first", *PRELOADS)
    client = lab.client(1, security=authority.security())
    data = client.scatter(b"x" * 1000)
    ((worker, facts),) = workers_of(client).items()
    ports = {"scheduler": [lab.address], "worker": [worker, facts["nanny"]]}

    def shown() -> dict[str, set[int]]:
        return {role: {authority.serial_at(at) for at in ports[role]} for role in ports}

    assert shown() == {role: {old[role]} for role in ports}

    # A certificate without its key yet, and one that is cut off: nothing changes.
    serials = {}
    keys = {}
    for role in ports:
        serials[role], certificate, keys[role] = authority.issue(role)
        (authority.folder / f"{role}.pem").write_bytes(certificate[:200])
    for name in ("scheduler", "first"):
        until(lambda name=name: "cannot be used yet" in lab.log(name), "the half is refused")
    assert shown() == {role: {old[role]} for role in ports}
    for role in ports:
        serials[role], certificate, keys[role] = authority.issue(role)
        replacement = authority.folder / "new"
        replacement.write_bytes(certificate)
        os.replace(replacement, authority.folder / f"{role}.pem")
    for name in ("scheduler", "first"):
        until(lambda name=name: "KEY_VALUES_MISMATCH" in lab.log(name), "the pair is refused")
    assert shown() == {role: {old[role]} for role in ports}
    assert client.submit(sum, [1, 2], pure=False).result(timeout=10) == 3

    # The keys arrive, and with them the renewal, in both directions.
    for role in ports:
        (authority.folder / f"{role}.key").write_bytes(keys[role])
    until(lambda: shown() == {role: {serials[role]} for role in ports}, "all show the new ones")
    door, connects = Door(authority), inviter()
    at = door.address
    assert door.visitor(lambda: client.run(connects, at)) == serials["worker"]
    assert door.visitor(lambda: client.run(connects, at, nanny=True)) == serials["worker"]
    assert door.visitor(lambda: client.run_on_scheduler(connects, at)) == serials["scheduler"]

    # Nobody has noticed; a worker that comes now works with the one that was there.
    assert client.submit(sum, [3, 4], pure=False).result(timeout=10) == 7
    lab.worker("second", *PRELOADS)
    client.wait_for_workers(2, timeout=30)
    length = client.submit(len, data, workers=["second"], pure=False)
    assert length.result(timeout=20) == 1000
    assert data.result(timeout=10) == b"x" * 1000
    assert lab.log("first").count("Registered to:") == 1
    for name in ("scheduler", "first", "second"):
        assert "Traceback" not in lab.log(name)
