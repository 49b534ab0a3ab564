"""How a client reaches a cluster, and where that is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial import paths
from perennial.authority import RENEW_WITHIN
from perennial.errors import PerennialError
from perennial.files import read_json, write_json
from perennial.registry import PLATFORMS
from perennial.state import command
from perennial.tls import Tls

# Strict, because both end in other programs: a link as markup in a notebook, both in a terminal.
_HOST = (
    r"(?:\[[0-9a-fA-F:.]+(?:%[A-Za-z0-9._-]{1,15})?\]"
    r"|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?)"
)
_ADDRESS = re.compile(rf"(?:tls|tcp|ucx)://{_HOST}:[0-9]{{1,5}}")
_LINK = re.compile(
    rf"https?://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9/._~%!$&()*+,;=:@?-]{{0,1000}})?"
)


@dataclass(frozen=True, slots=True)
class Connection:
    """How a client reaches a cluster; holds no secret itself.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    scheduler_address : str
        Such as ``tls://127.0.0.1:8786``.
    dashboard_link : str or None
        Where a browser finds Dask's dashboard.
    tls : Tls or None
        The client's certificate; None for a cluster without TLS.
    jupyter_url : str or None
        Where a browser finds JupyterLab, without its token.
    """

    cluster: str
    scheduler_address: str
    dashboard_link: str | None = None
    tls: Tls | None = None
    jupyter_url: str | None = None

    def to_json(self) -> dict[str, object]:
        """Write the connection as JSON can hold it; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Connection:
        """Read what `to_json` wrote.

        Parameters
        ----------
        value : object
            Parsed JSON.

        Raises
        ------
        ValueError
            Says what is not as it should be.
        """
        fields = value if isinstance(value, dict) else {}
        cluster, address = fields.get("cluster"), fields.get("scheduler_address")
        dashboard, jupyter = fields.get("dashboard_link"), fields.get("jupyter_url")
        tls = fields.get("tls")
        if not isinstance(cluster, str):
            raise ValueError("no name of a cluster")
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise ValueError("no scheduler address such as tls://127.0.0.1:8786")
        for link in (dashboard, jupyter):
            if link is not None and not (isinstance(link, str) and _LINK.fullmatch(link)):
                raise ValueError(
                    "a link other than http://HOST:PORT/PATH or https://HOST:PORT/PATH"
                )
        if tls is None and address.startswith("tls:"):
            raise ValueError("a tls:// address without a certificate")
        if tls is not None and not address.startswith("tls:"):
            raise ValueError("a certificate beside an address other than tls://")
        return cls(cluster, address, dashboard, None if tls is None else _tls(tls), jupyter)


def _tls(value: Any) -> Tls:
    fields = value if isinstance(value, dict) else {}
    ca, cert, key = fields.get("ca"), fields.get("cert"), fields.get("key")
    if not (isinstance(ca, str) and isinstance(cert, str) and isinstance(key, str)):
        raise ValueError("a certificate without its authority or key")
    return Tls(ca, cert, key)


def save(cluster: paths.ClusterPaths, connection: Connection) -> None:
    """Keep a cluster's connection in its state folder, where `find` looks for it.

    Parameters
    ----------
    cluster : ClusterPaths
        The cluster's paths.
    connection : Connection
        How it is reached.
    """
    write_json(cluster.connection, connection.to_json())


def load(cluster: paths.ClusterPaths) -> Connection:
    """Read a cluster's connection from its state folder.

    Parameters
    ----------
    cluster : ClusterPaths
        The cluster's paths.

    Raises
    ------
    PerennialError
        When there is none, or the file is damaged.
    """
    return _read(cluster.connection, f"{command('up', cluster.root.name)} writes it")


def received(name: str) -> Connection:
    """Read the connection to a cluster elsewhere, kept when its bundle was read."""
    file = received_file(name)
    return _read(file, "read the bundle again with `perennial connect FILE`")


def received_file(name: str) -> Path:
    """Where the connection to a cluster elsewhere is kept."""
    return paths.received_connection(name) / "connection.json"


def choose(name: str | None = None) -> str:
    """Say which cluster of this machine is meant: the one named, or the only one.

    Parameters
    ----------
    name : str or None
        What the user wrote.

    Raises
    ------
    PerennialError
        When there is none, several, or none of this name.
    """
    return _only(name, paths.known_clusters())


def find(name: str | None = None) -> Connection:
    """Find how a cluster is reached: one of this machine, or one for which a bundle was read.

    Parameters
    ----------
    name : str or None
        What the user wrote; the only one when it is not given.

    Raises
    ------
    PerennialError
        When there is none, several, or none of this name.
    """
    chosen = _only(name, known())
    here = chosen in paths.known_clusters()
    return load(paths.cluster_state(chosen)) if here else received(chosen)


def known() -> list[str]:
    """Name the clusters that `find` finds, in order."""
    return sorted({*paths.known_clusters(), *paths.received_connections()})


def expiry_notices(connection: Connection) -> tuple[str, ...]:
    """Say that the client's certificate has ended or ends within 30 days.

    Parameters
    ----------
    connection : Connection
        How the cluster is reached.
    """
    if connection.tls is None:
        return ()
    from perennial import certificates

    end = certificates.ends(Path(connection.tls.cert).read_bytes())
    now = datetime.now(UTC)
    if end is None or end - now > RENEW_WITHIN:
        return ()
    verb = "expired" if end <= now else "expires"
    return (
        f"the client's certificate for {connection.cluster} {verb} on {end:%Y-%m-%d}; "
        f"{renewal(connection)}",
    )


def renewal(connection: Connection) -> str:
    """Say what renews the client's certificate: on hosts it is `up`."""
    state = paths.cluster_state(connection.cluster)
    if connection.tls == Tls.in_folder(state.tls) and state.spec.exists():
        from perennial.spec import load as load_spec

        with suppress(PerennialError, OSError):
            platform = load_spec(state.spec, remembered=True).platform
            verb = PLATFORMS[platform].renews
            return f"{command(verb, connection.cluster)} renews it"
    return (
        "`perennial rotate` renews it where the cluster was started, or `perennial up` or"
        " `pulumi up` for one on machines over SSH"
    )


def _read(file: Path, remedy: str) -> Connection:
    value = read_json(file)
    if value is None:
        raise PerennialError(f"{file}: no connection stored here; {remedy}")
    try:
        return Connection.from_json(value)
    except ValueError as error:
        raise PerennialError(f"{file} is damaged: found {error}; {remedy}") from None


def _only(name: str | None, known: Sequence[str]) -> str:
    if name is not None and name in known:
        return name
    shown = name or "''"
    if not known:
        missing = "no clusters found" if name is None else f"{shown}: no such cluster"
        raise PerennialError(
            f"{missing}; run `perennial up -f FILE`, or `perennial connect FILE` with a"
            " colleague's bundle, or `perennial connect --stack STACK` for one of `pulumi up`"
        )
    names = ", ".join(known)
    if name is not None:
        raise PerennialError(f"{shown}: no such cluster; allowed: {names}")
    if len(known) > 1:
        raise PerennialError(f"several clusters found; name one of {names}")
    return known[0]
