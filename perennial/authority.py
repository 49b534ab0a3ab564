"""The folder of a cluster's certificate authority and of the certificates of its three roles.

One authority a cluster, so that no other cluster's certificate opens this one. Dask does not
compare names with addresses: the authority is what it trusts. The names are in the certificates
all the same, for clients that do compare them.

A certificate is renewed with the key that it has, so whoever reads certificate and key from the
folder, at any moment, finds two that fit together.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import PerennialError
from perennial.files import make_private, write_atomic

if TYPE_CHECKING:
    from perennial.certificates import Pair

#: The roles that have a certificate.
ROLES = ("scheduler", "worker", "client")

#: How long before its end a certificate should be renewed.
RENEW_WITHIN = timedelta(days=30)


def ensure(tls_dir: Path, cluster: str, names: Sequence[str]) -> bool:
    """Make what is missing of a cluster's certificates; safe to cut off and to run again.

    A certificate is made again when it does not fit its key, is not signed by the authority,
    has expired or lacks one of the names.

    Parameters
    ----------
    tls_dir : pathlib.Path
        Folder of the certificates and keys.
    cluster : str
        The cluster's name.
    names : sequence of str
        Addresses and names under which its services are reached.

    Returns
    -------
    bool
        Whether anything was made.

    Raises
    ------
    PerennialError
        When a certificate must be made but the authority's key is missing, although
        certificates depend on it.
    """
    _prepare(tls_dir)
    now = datetime.now(UTC)
    # A whole set is left alone: the authority's key may be kept elsewhere.
    if all(_usable(tls_dir, role, names, now) for role in ROLES):
        return False
    authority = _ensure_authority(tls_dir, cluster, now)
    for role in ROLES:
        if not _usable(tls_dir, role, names, now):
            _write_certificate(tls_dir, authority, role, names, now)
    return True


def renew(tls_dir: Path, cluster: str, names: Sequence[str]) -> None:
    """Renew the certificate of every role, with the same authority and the same keys.

    Parameters
    ----------
    tls_dir : pathlib.Path
        Folder of the certificates and keys.
    cluster : str
        The cluster's name.
    names : sequence of str
        Addresses and names under which its services are reached.

    Raises
    ------
    PerennialError
        When the authority's key is missing.
    """
    _prepare(tls_dir)
    now = datetime.now(UTC)
    authority = _ensure_authority(tls_dir, cluster, now)
    for role in ROLES:
        _write_certificate(tls_dir, authority, role, names, now)


def replace(tls_dir: Path, cluster: str, names: Sequence[str]) -> None:
    """Make a new authority and fresh keys for every role; nothing of the old ones is left.

    The new folder takes the old one's place as a whole. Cut off in between there is none, and
    `ensure` makes one, of a new authority as well.
    """
    fresh, old = (tls_dir.with_name(f"{tls_dir.name}.{word}") for word in ("new", "old"))
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    ensure(fresh, cluster, names)
    if tls_dir.exists():
        tls_dir.rename(old)
    fresh.rename(tls_dir)
    shutil.rmtree(old, ignore_errors=True)


def signer(tls_dir: Path, cluster: str) -> Pair:
    """Read a cluster's authority with its key, or raise where it cannot sign."""
    if not (tls_dir / "ca-key.pem").exists():
        raise PerennialError(
            f"{tls_dir / 'ca-key.pem'}: the key of {cluster}'s authority is missing, so nothing can"
            " be signed; restore it from a backup"
        )
    return _ensure_authority(tls_dir, cluster, datetime.now(UTC))


def expiry(tls_dir: Path) -> dict[str, datetime]:
    """When each certificate ends, by its file's name without ``.pem``.

    Parameters
    ----------
    tls_dir : pathlib.Path
        Folder of the certificates; one that is missing or damaged is left out.
    """
    from perennial import certificates

    found = {name: certificates.ends(_read(tls_dir / f"{name}.pem")) for name in ("ca", *ROLES)}
    return {name: end for name, end in found.items() if end is not None}


def local_names() -> tuple[str, ...]:
    """Every address of this machine and its names, in order, without asking a name server.

    What no certificate can hold is left out: nothing of ours needs it, and it may be wrong.
    """
    import psutil

    from perennial import certificates

    addresses = {
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }
    # Link-local addresses come and go with every container and cannot be reached by name.
    lasting = {name for name in addresses if not ipaddress.ip_address(name).is_link_local}
    return tuple(sorted(lasting | set(filter(certificates.is_name, host_names()))))


def host_names(file: Path = Path("/etc/hosts")) -> set[str]:
    """Names of this machine: its own, and those that a hosts file gives to it."""
    hostname = socket.gethostname()
    try:
        hosts = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        hosts = ""
    return {hostname} | aliases(hosts, hostname)


def aliases(hosts: str, hostname: str) -> set[str]:
    """Names that a hosts file gives to a machine, its fully qualified one among them.

    Parameters
    ----------
    hosts : str
        Text of the hosts file.
    hostname : str
        The machine's short name.
    """
    lines = [line.partition("#")[0].split()[1:] for line in hosts.splitlines()]
    return {name for line in lines if hostname in line for name in line}


def _ensure_authority(tls_dir: Path, cluster: str, now: datetime) -> Pair:
    """Read the authority, or make it where no certificate can depend on it yet."""
    from perennial import certificates

    cert_file, key_file = tls_dir / "ca.pem", tls_dir / "ca-key.pem"
    found = certificates.Pair(_read(cert_file), _read(key_file))
    end, has_key = certificates.ends(found.cert), certificates.is_key(found.key)
    again = f"take the cluster down, remove {tls_dir}, bring it up again and hand out new bundles"
    if end is not None and has_key and certificates.fault(found.cert, found) is None:
        if end <= now:
            raise PerennialError(
                f"{cert_file}: the authority of {cluster} expired on {end:%Y-%m-%d}; {again}"
            )
        return found
    if end is None and has_key:
        # Cut off between the two files, or the certificate was lost: the key is what counts.
        authority = certificates.make_authority(cluster, now, found.key)
    elif any((tls_dir / f"{role}.pem").exists() for role in ROLES):
        state = f"of another authority than {cert_file.name}" if has_key else "missing or damaged"
        raise PerennialError(
            f"{key_file}: found the key of {cluster}'s authority {state}, so no certificate can "
            f"be made; restore it from a backup, or {again}"
        )
    else:
        authority = certificates.make_authority(cluster, now)
    # The key first: a key without its certificate is finished next time, see above.
    cert_file.unlink(missing_ok=True)
    write_atomic(key_file, authority.key)
    write_atomic(cert_file, authority.cert)
    return authority


def _write_certificate(
    tls_dir: Path, authority: Pair, role: str, names: Sequence[str], now: datetime
) -> None:
    from perennial import certificates

    key_file = tls_dir / f"{role}-key.pem"
    key = _read(key_file)
    pair = certificates.make_certificate(authority, role, names, now, key)
    if pair.key != key:
        write_atomic(key_file, pair.key)
    write_atomic(tls_dir / f"{role}.pem", pair.cert)


def _usable(tls_dir: Path, role: str, names: Sequence[str], now: datetime) -> bool:
    from perennial import certificates

    pair = certificates.Pair(_read(tls_dir / f"{role}.pem"), _read(tls_dir / f"{role}-key.pem"))
    end = certificates.ends(pair.cert)
    return (
        end is not None
        and end > now
        and certificates.fault(_read(tls_dir / "ca.pem"), pair) is None
        and (role not in certificates.SERVERS or certificates.covers(pair.cert, names))
    )


def _prepare(tls_dir: Path) -> None:
    make_private(tls_dir)
    tls_dir.chmod(0o700)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
