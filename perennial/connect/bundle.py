"""A connection in one file, to hand to a colleague: address, client's certificate and key.

Whoever has the file can use the cluster until the certificate ends.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perennial import paths
from perennial.connect.connection import (
    Connection,
    load,
    received,
    received_file,
    renewal,
)
from perennial.errors import PerennialError
from perennial.files import write_atomic, write_json
from perennial.state import command
from perennial.tls import Tls

if TYPE_CHECKING:
    from perennial.certificates import Pair

_FORMAT = "dask-perennial connection"
_VERSION = 1
#: Far above any bundle: an authority, a certificate and a key are some 3 KB.
_LARGEST = 1_000_000
_NEW = "`perennial connect --export FILE` on the cluster's machine writes a new one"
_PEMS = ("ca", "cert", "key")
#: What Pulumi shows of a secret output.
_HIDDEN = b"[secret]"


def export_bundle(
    connection: Connection,
    path: Path,
    override: bool = False,
    issue: Callable[[], Pair] | None = None,
) -> None:
    """Write a connection and its certificate into one file, readable by this user alone.

    Parameters
    ----------
    connection : Connection
        How the cluster is reached.
    path : pathlib.Path
        The file.
    override : bool
        Whether it may exist already.
    issue : callable or None
        Makes a certificate for the one who gets the bundle; None to hand out the connection's own.

    Raises
    ------
    PerennialError
        When the file exists, or the certificate is of no use.
    """
    if path.exists() and not override:
        raise PerennialError(f"{path} exists already; choose another name or add --replace")
    content = {**connection.to_json(), "tls": None, "expires": None}
    if connection.tls is not None:
        try:
            pems = {name: Path(getattr(connection.tls, name)).read_bytes() for name in _PEMS}
        except OSError as error:
            raise PerennialError(
                f"{error.filename}: {error.strerror}; {command('up', connection.cluster)} makes it"
            ) from None
        if issue is not None:
            pair = issue()
            pems |= {"cert": pair.cert, "key": pair.key}
        end = _check(Path(connection.tls.cert), pems, renewal(connection))
        content["tls"] = {name: pem.decode() for name, pem in pems.items()}
        content["expires"] = end.isoformat()
    bundle = {
        "format": _FORMAT,
        "version": _VERSION,
        "sha256": _checksum(content),
        "content": content,
    }
    try:
        write_json(path, bundle)
    except OSError as error:
        raise PerennialError(
            f"{path}: {error.strerror}; choose a path that you can write to"
        ) from None


def _refuse(change: str) -> None:
    raise PerennialError(f"{change}; --replace takes the bundle's")


def read_bundle(
    path: Path,
    override: bool = False,
    unencrypted: bool = False,
    agree: Callable[[str], None] = _refuse,
) -> Connection:
    """Read a bundle and keep its certificate under the state folder.

    Parameters
    ----------
    path : pathlib.Path
        The bundle, or what a stack's output `connection` says; ``-`` for standard input.
    override : bool
        Whether it may change where a cluster of the same name is, or whom it trusts.
    unencrypted : bool
        Whether it may lead to a cluster without TLS.
    agree : callable
        Asked, where ``override`` does not say it, with what would change; raises to refuse.

    Returns
    -------
    Connection
        Ready for `perennial.connect.write`.

    Raises
    ------
    PerennialError
        When the bundle is damaged, expired, or changes something that nobody agreed to.
    """
    source = "standard input" if str(path) == "-" else str(path)
    content, pems = _checked(_content(path, source), source, _NEW)
    if not pems and not unencrypted:
        raise PerennialError(
            f"{source}: found {content.scheduler_address}, a cluster without TLS: anyone on "
            "the network can read and change its traffic; add --unencrypted to accept that"
        )
    files = Tls.in_folder(paths.received_connection(content.cluster)) if pems else None
    connection = replace(content, tls=files)
    existing = known_as(connection.cluster)
    if existing is not None and _is_own(existing, connection, pems):
        return existing  # its own certificates are here, and are renewed here
    if not override:
        _ask(source, existing, content, pems, agree)
    # The authority first: cut off here, the next run knows the bundle's cluster again.
    for name in ("ca", "key", "cert") if files else ():
        write_atomic(Path(getattr(files, name)), pems[name])
    write_json(received_file(connection.cluster), connection.to_json())
    return connection


def require_agreement(
    value: Any, source: str, existing: Connection | None, agree: Callable[[str], None]
) -> None:
    """Check what a stack says of a connection, and ask what it changes of one known here."""
    content, pems = _checked(value, source, "run `pulumi up`, which makes it anew")
    _ask(source, existing, content, pems, agree)


def same_cluster(existing: Connection, value: Any) -> bool:
    """Whether a stack's connection leads to a cluster that is known here."""
    content = Connection.from_json(value)
    pems = {"ca": content.tls.ca.encode()} if content.tls is not None else {}
    same = bool(pems) or existing.scheduler_address == content.scheduler_address
    return same and _same_authority(existing, pems)


def loopback_host(connection: Connection) -> str:
    """Name the loopback address on which a scheduler listens; empty for any other address."""
    host = urlsplit(connection.scheduler_address).hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return host if loopback else ""


def loopback_notice(connection: Connection) -> str | None:
    """Say that a cluster is reached from its own machine alone.

    Parameters
    ----------
    connection : Connection
        How it is reached.
    """
    host = loopback_host(connection)
    if not host:
        return None
    return (
        f"the scheduler of {connection.cluster} listens on {host}: this works on the cluster's "
        "own machine alone"
    )


def _content(path: Path, source: str) -> Any:
    """Read a bundle's content, as it was written."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise PerennialError(
            f"{path}: {error.strerror}; name a cluster or a bundle that you may read"
        ) from None
    if data.strip() == _HIDDEN:
        raise PerennialError(
            f"{source}: found {_HIDDEN.decode()}; add --show-secrets to `pulumi stack output`"
        )
    try:
        bundle = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        bundle = None
    if not isinstance(bundle, dict):
        bundle = {}
    if "format" not in bundle and "scheduler_address" in bundle:
        return bundle  # a stack's output: the connection itself
    version = bundle.get("version")
    if bundle.get("format") != _FORMAT or not isinstance(version, int):
        raise PerennialError(f"{source} is damaged: not a bundle, or a part of one; {_NEW}")
    if version != _VERSION:
        raise PerennialError(
            f"{source}: found a bundle of version {version}, this perennial reads "
            f"version {_VERSION}; install the version that the cluster has"
        )
    content = bundle.get("content")
    if bundle.get("sha256") != _checksum(content):
        raise PerennialError(f"{source} is damaged: its checksum does not fit; {_NEW}")
    return content


def _checked(value: Any, source: str, remedy: str) -> tuple[Connection, dict[str, bytes]]:
    """Check a connection which holds the certificates themselves; return them as well."""
    try:
        content = Connection.from_json(value)
        paths.received_connection(content.cluster)
    except (ValueError, PerennialError) as error:
        raise PerennialError(f"{source} is damaged: found {error}; {remedy}") from None
    return content, _pems(source, content, remedy)


def _ask(
    source: str,
    existing: Connection | None,
    new: Connection,
    pems: dict[str, bytes],
    agree: Callable[[str], None],
) -> None:
    """Ask what changes of a cluster that is known here."""
    if change := _changes(existing, new, pems):
        agree(f"{source}: found another cluster named {new.cluster} than known here: {change}")


def _checksum(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(where: Path | str, pems: dict[str, bytes], remedy: str) -> datetime:
    """Raise when a certificate is of no use; return when it ends."""
    from perennial import certificates

    fault = certificates.fault(pems["ca"], certificates.Pair(pems["cert"], pems["key"]))
    end = certificates.ends(pems["cert"])
    if fault is not None or end is None:
        raise PerennialError(f"{where}: {fault}; {remedy}")
    if end <= datetime.now(UTC):
        raise PerennialError(f"{where}: the certificate expired on {end:%Y-%m-%d}; {remedy}")
    return end


def known_as(name: str) -> Connection | None:
    """Read the connection that this user has to a cluster of that name."""
    if name in paths.known_clusters():
        return load(paths.cluster_state(name))
    try:
        return received(name) if received_file(name).exists() else None
    except PerennialError:
        return None  # damaged: reading the bundle again repairs it


def _pems(source: str, content: Connection, remedy: str) -> dict[str, bytes]:
    """Return a bundle's certificates, checked; none without TLS."""
    if content.tls is None:
        return {}
    from perennial import certificates

    # What is not ASCII is no PEM: the checks say so.
    pems = {name: getattr(content.tls, name).encode("ascii", "replace") for name in _PEMS}
    _check(source, pems, remedy)
    authority = certificates.sole_authority(pems["ca"])
    if authority is None:
        raise PerennialError(
            f"{source}: found other than exactly one certificate of an authority; {remedy}"
        )
    return {**pems, "ca": authority}


def _changes(existing: Connection | None, new: Connection, pems: dict[str, bytes]) -> str:
    """Say what a bundle changes of where a cluster is and whom it trusts; empty for nothing."""
    if existing is None:
        return ""
    from perennial import certificates

    before, after = _trusted(existing), certificates.fingerprint(pems.get("ca", b""))
    if pems and _same_authority(existing, pems):
        after = before  # a new certificate for the same key
    pairs = [
        ("address", existing.scheduler_address, new.scheduler_address),
        ("authority (SHA-256)", before, after or ("none" if before else "")),
        # Jupyter's token is typed there; a link that goes is no danger.
        ("Jupyter", _place(existing.jupyter_url), _place(new.jupyter_url)),
        ("dashboard", _place(existing.dashboard_link), _place(new.dashboard_link)),
    ]
    return "; ".join(
        f"{what} {old or 'none'} → {now}" for what, old, now in pairs if now not in ("", old)
    )


def _is_own(existing: Connection, new: Connection, pems: dict[str, bytes]) -> bool:
    """Whether a bundle is one of a cluster of this machine, which needs none."""
    same = bool(pems) or existing.scheduler_address == new.scheduler_address
    own = new.cluster in paths.known_clusters()
    return own and same and _same_authority(existing, pems)


def _trusted(existing: Connection) -> str:
    """Fingerprint of the authority that a connection trusts; empty for none."""
    from perennial import certificates

    try:
        return certificates.fingerprint(Path(existing.tls.ca).read_bytes()) if existing.tls else ""
    except OSError:
        return ""


def _place(link: str | None) -> str:
    """Scheme, host and port of a link: what decides who gets what is typed there."""
    parts = urlsplit(link or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _same_authority(existing: Connection, pems: dict[str, bytes]) -> bool:
    from perennial import certificates

    if existing.tls is None or not pems:
        return existing.tls is None and not pems
    try:
        return certificates.same_authority(Path(existing.tls.ca).read_bytes(), pems["ca"])
    except OSError:
        return False
