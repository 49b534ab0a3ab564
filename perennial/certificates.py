"""X.509 certificates of a cluster, as PEM in and PEM out: no file and no clock.

Elliptic curve keys (P-256), one authority a cluster, one certificate a role. Slow to import
(cryptography), so the modules beside it import it only where they need it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from perennial.errors import PerennialError

#: The roles that accept connections. A client's certificate cannot stand for one of them.
SERVERS = ("scheduler", "worker", "jupyter")

CA_LIFE = timedelta(days=3650)
LIFE = timedelta(days=365)
#: Certificates are valid a little before they are made: the clocks of two machines differ.
_BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM; empty where there is none."""

    cert: bytes
    key: bytes


def make_authority(cluster: str, now: datetime, key: bytes = b"") -> Pair:
    """Make the authority of a cluster.

    With an existing key of it, only the certificate is made again; what it has signed stays valid.
    """
    private = _load_key(key) or _new_key()
    name = _name("ca", f"dask-perennial {cluster}")
    builder = (
        _builder(name, private, now, now + CA_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    )
    return _signed(builder, private, private)


def make_certificate(
    authority: Pair,
    role: str,
    names: Sequence[str],
    now: datetime,
    key: bytes = b"",
    person: str = "",
) -> Pair:
    """Make the certificate of a role, signed by an authority.

    A server's names are those under which it is reached; loopback is added. Without a key, or
    with a damaged one, a new key is made. The person stands beside the role in the subject.
    """
    ca, ca_key = _load_cert(authority.cert), _load_key(authority.key)
    if ca is None or ca_key is None:
        raise ValueError("the authority is damaged")
    private = _load_key(key) or _new_key()
    organization = ca.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
    server = [ExtendedKeyUsageOID.SERVER_AUTH] if role in SERVERS else []
    builder = (
        _builder(
            _name(role, str(organization), person),
            private,
            now,
            min(now + LIFE, ca.not_valid_after_utc),
        )
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([*server, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    if role in SERVERS:
        alternatives = [
            x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name)
            for name in _wanted(names)
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _signed(builder, private, ca_key)


def make_revocations(
    authority: Pair, serials: Sequence[int], now: datetime, before: bytes = b""
) -> bytes:
    """Make an authority's list of revoked certificates (a CRL in PEM), newer than ``before``."""
    ca, ca_key = _load_cert(authority.cert), _load_key(authority.key)
    if ca is None or ca_key is None:
        raise ValueError("the authority is damaged")
    # Of two lists OpenSSL takes the newer one, and dates have whole seconds. It refuses everybody
    # once the list has ended; nobody else publishes one, so it holds as long as the authority.
    issued = now - _BACKDATED
    try:
        last = x509.load_pem_x509_crl(before).last_update_utc
        issued = max(issued, last + timedelta(seconds=1))
    except ValueError:
        pass
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(issued)
        .next_update(ca.not_valid_after_utc)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def serial(cert: bytes) -> int:
    """Read the serial number of a certificate."""
    return x509.load_pem_x509_certificate(cert).serial_number


def fault(ca: bytes, pair: Pair) -> str | None:
    """Say what is wrong with a certificate and its key under an authority, but for its dates."""
    authority, cert, key = _load_cert(ca), _load_cert(pair.cert), _load_key(pair.key)
    if authority is None:
        return "the authority's certificate is damaged"
    if cert is None:
        return "the certificate is damaged"
    if key is None:
        return "the private key is damaged"
    if cert.public_key() != key.public_key():
        return "the private key belongs to another certificate"
    if not _issued(authority, cert):
        return "the certificate was signed by another authority"
    return None


def sole_authority(pem: bytes) -> bytes | None:
    """Return the only certificate in a text, when it is an authority's; else None.

    It is written out again, so that nothing else in the text is ever loaded as trusted.
    """
    try:
        [cert] = x509.load_pem_x509_certificates(pem)
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    if pem.count(b"-----BEGIN") != 1 or not constraints.ca or not _issued(cert, cert):
        return None
    return cert.public_bytes(Encoding.PEM)


def fingerprint(cert: bytes) -> str:
    """SHA-256 fingerprint of a certificate as browsers and openssl show it; empty if damaged."""
    loaded = _load_cert(cert)
    return "" if loaded is None else loaded.fingerprint(hashes.SHA256()).hex(":").upper()


def covers(cert: bytes, names: Sequence[str]) -> bool:
    """Whether a server's certificate holds all of these names and addresses, and loopback."""
    loaded = _load_cert(cert)
    if loaded is None:
        return False
    try:
        found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(_wanted(names)) <= {str(name.value) for name in found}


def ends(cert: bytes) -> datetime | None:
    """When a certificate ends; None for one that is missing or damaged."""
    loaded = _load_cert(cert)
    return None if loaded is None else loaded.not_valid_after_utc


def is_key(pem: bytes) -> bool:
    """Whether this is a private key that a certificate can be made for."""
    return _load_key(pem) is not None


def same_authority(one: bytes, other: bytes) -> bool:
    """Whether two certificates have the same public key; False where one is damaged."""
    first, second = _load_cert(one), _load_cert(other)
    return first is not None and second is not None and first.public_key() == second.public_key()


def _wanted(names: Sequence[str]) -> list[str]:
    """Names as they stand in a certificate, loopback among them."""
    found = set()
    for name in (*names, "localhost", "127.0.0.1", "::1"):
        if _is_address(name):
            found.add(str(ipaddress.ip_address(name)))
            continue
        if (encoded := _encoded(name)) is None:
            raise PerennialError(
                f"{name!r} is no host name: found a part that is empty or longer than 63 "
                "letters; give an IP address or a DNS name"
            )
        found.add(encoded)
    return sorted(found)


def is_name(name: str) -> bool:
    """Whether a certificate can hold a name: an IP address or a DNS name."""
    return _is_address(name) or _encoded(name) is not None


def _encoded(name: str) -> str | None:
    try:
        # An empty name is refused as an empty part of one is.
        return (name.lower() or ".").encode("idna").decode()
    except UnicodeError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(role: str, organization: str, person: str = "") -> x509.Name:
    # The role stays the common name, whatever a person is called.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, role),
            *([x509.NameAttribute(NameOID.USER_ID, person)] if person else []),
        ]
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{usage: usage in allowed for usage in every})


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
) -> Pair:
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    cert = builder.add_extension(signer, critical=False).sign(ca_key, hashes.SHA256())
    return Pair(
        cert.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _load_cert(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):  # no PEM, or locked with a password
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _issued(ca: x509.Certificate, cert: x509.Certificate) -> bool:
    try:
        cert.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
