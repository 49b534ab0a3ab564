"""A connection in one file, to hand to a colleague: address, client's certificate and key.

Whoever has the file can use the cluster until the certificate ends.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perennial import paths
from perennial.connect.connection import (
    Connection,
    Tls,
    load,
    received,
    received_file,
    renewal,
)
from perennial.errors import PerennialError
from perennial.files import write_atomic, write_json

_FORMAT = "dask-perennial connection"
_VERSION = 1
#: Far above any bundle: an authority, a certificate and a key are some 3 KB.
_LARGEST = 1_000_000
_NEW = "`perennial connect --export FILE` on the cluster's machine writes a new one"
_PEMS = ("ca", "cert", "key")


def export_bundle(connection: Connection, path: Path, override: bool = False) -> None:
    """Write a connection and its certificate into one file, readable by this user alone.

    Parameters
    ----------
    connection : Connection
        How the cluster is reached.
    path : pathlib.Path
        The file.
    override : bool
        Whether it may exist already.

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
                f"{error.filename}: {error.strerror}; `perennial up` makes it"
            ) from None
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
            f"{path}: {error.strerror}; choose a place that you may write to"
        ) from None


def read_bundle(path: Path, override: bool = False) -> Connection:
    """Read a bundle and keep its certificate under the state folder.

    Parameters
    ----------
    path : pathlib.Path
        The bundle.
    override : bool
        Whether it may take the place of another cluster's connection of the same name.

    Returns
    -------
    Connection
        Ready for `perennial.connect.write`.

    Raises
    ------
    PerennialError
        When the bundle is damaged, expired or for another cluster.
    """
    value = _content(path)
    try:
        # `tls` holds the certificates themselves here, where a connection holds their files.
        content = Connection.from_json(value)
        folder = paths.received_connection(content.cluster)
    except (ValueError, PerennialError) as error:
        raise PerennialError(f"{path} is damaged: found {error}; {_NEW}") from None
    # What is not ASCII is no PEM: the check below says so.
    pems = {
        name: getattr(content.tls, name).encode("ascii", "replace")
        for name in (_PEMS if content.tls else ())
    }
    if pems:
        _check(path, pems, _NEW)
    files = Tls.in_folder(folder) if pems else None
    connection = replace(content, tls=files)
    existing = _existing(connection.cluster)
    if existing is not None and not _same(existing, connection, pems):
        if not override:
            raise PerennialError(
                f"{path}: found a bundle for another cluster named {connection.cluster} than the "
                f"one known here ({existing.scheduler_address}); --replace takes the bundle's"
            )
    elif existing is not None and connection.cluster in paths.known_clusters():
        return existing  # its own certificates are here, and are renewed here
    # The authority first: cut off here, the next run knows the bundle's cluster again.
    for name in ("ca", "key", "cert") if files else ():
        write_atomic(Path(getattr(files, name)), pems[name])
    write_json(received_file(connection.cluster), connection.to_json())
    return connection


def loopback_notice(connection: Connection) -> str | None:
    """Say that a cluster is reached from its own machine alone.

    Parameters
    ----------
    connection : Connection
        How it is reached.
    """
    host = urlsplit(connection.scheduler_address).hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        return None
    return (
        f"the scheduler of {connection.cluster} listens on {host}: this works on the cluster's "
        "own machine alone"
    )


def _content(path: Path) -> Any:
    """Read a bundle's content, as it was written."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise PerennialError(
            f"{path}: {error.strerror}; name a cluster or a bundle that you may read"
        ) from None
    try:
        bundle = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        bundle = None
    if not isinstance(bundle, dict):
        bundle = {}
    version = bundle.get("version")
    if bundle.get("format") != _FORMAT or not isinstance(version, int):
        raise PerennialError(f"{path} is damaged: found no bundle, or a part of one; {_NEW}")
    if version != _VERSION:
        raise PerennialError(
            f"{path}: found a bundle of version {version}, this perennial reads "
            f"version {_VERSION}; install the version that the cluster has"
        )
    content = bundle.get("content")
    if bundle.get("sha256") != _checksum(content):
        raise PerennialError(f"{path} is damaged: its checksum does not fit; {_NEW}")
    return content


def _checksum(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(where: Path, pems: dict[str, bytes], remedy: str) -> datetime:
    """Raise when a certificate is of no use; return when it ends."""
    from perennial import certificates

    fault = certificates.fault(pems["ca"], certificates.Pair(pems["cert"], pems["key"]))
    end = certificates.ends(pems["cert"])
    if fault is not None or end is None:
        raise PerennialError(f"{where}: {fault}; {remedy}")
    if end <= datetime.now(UTC):
        raise PerennialError(f"{where}: the certificate expired on {end:%Y-%m-%d}; {remedy}")
    return end


def _existing(name: str) -> Connection | None:
    """Read the connection that this user has to a cluster of that name."""
    if name in paths.known_clusters():
        return load(paths.cluster_state(name))
    try:
        return received(name) if received_file(name).exists() else None
    except PerennialError:
        return None  # damaged: reading the bundle is what mends it


def _same(existing: Connection, connection: Connection, pems: dict[str, bytes]) -> bool:
    """Whether two connections are to one cluster: its authority says so, else its address."""
    from perennial import certificates

    if existing.tls is None or not pems:
        return not existing.tls and not pems and existing == connection
    try:
        return certificates.same_authority(Path(existing.tls.ca).read_bytes(), pems["ca"])
    except OSError:
        return False
