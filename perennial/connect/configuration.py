"""One file in the user's own Dask configuration, which makes a plain ``Client()`` work.

What is written there reaches every Dask process of the user, their own ``LocalCluster()`` among
them. So only what a client reads is written. ``distributed.comm.require-encryption`` is not: with
it a plain ``LocalCluster()`` or ``dask scheduler`` does not start any more. Nothing is lost,
because a client that is given a ``tls://`` address uses TLS or does not connect.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from perennial import paths
from perennial.connect.connection import Connection, expiry_notices
from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.tls import Tls

if TYPE_CHECKING:
    from perennial.services.configuration import Config

#: The one file that `write` makes and `remove` removes.
FILE = "perennial.yaml"
_HEADER = "# Written by `perennial connect`; `perennial disconnect` removes it.\n"
#: The dashboard's port in a link to it, behind jupyter-server-proxy or bare.
_DASHBOARD_PORT = re.compile(r"(?<=/proxy/)\d+(?=/)|(?<=:)\d+(?=/status$)")
_CA = ("distributed", "comm", "tls", "ca-file")
_CERT = ("distributed", "comm", "tls", "client", "cert")
_KEY = ("distributed", "comm", "tls", "client", "key")
_ADDRESS = ("scheduler-address",)
_CLUSTER = ("perennial", "cluster")
_LINK = ("distributed", "dashboard", "link")


def write(connection: Connection) -> tuple[str, ...]:
    """Make a plain ``Client()`` in every new process of this user reach a cluster.

    Parameters
    ----------
    connection : Connection
        How it is reached.

    Returns
    -------
    tuple of str
        What the user should know: whose connection it replaces, what wins over it, and a
        certificate that ends soon.

    Raises
    ------
    PerennialError
        When another file of the user's Dask configuration says something else, or a file of
        the connection is missing.
    """
    for file in _files(connection):
        if not Path(file).is_file():
            raise PerennialError(
                f"{file}: no such file, and Client() cannot start without it; "
                "`perennial up` makes it"
            )
    target = paths.dask_config_home() / FILE
    _refuse_contradictions(target, connection)
    previous = current()
    text = yaml.safe_dump(dask_config(connection), sort_keys=False, allow_unicode=True)
    write_atomic(target, _HEADER + text)
    notices = [*_stronger_variables(connection), *expiry_notices(connection)]
    if previous is not None and previous.cluster != connection.cluster:
        notices.insert(0, f"this replaces the connection to {previous.cluster}")
    return tuple(notices)


def remove(name: str | None = None) -> str | None:
    """Undo `write`; touches nothing else.

    Parameters
    ----------
    name : str or None
        Only when connected to this cluster.

    Returns
    -------
    str or None
        The cluster that ``Client()`` reached; None when it reached none.

    Raises
    ------
    PerennialError
        When connected to another cluster than the one named.
    """
    found = list(_written())
    mine = [(file, it.cluster) for file, it in found if name in (None, it.cluster)]
    if found and not mine:
        other = found[0][1].cluster
        raise PerennialError(
            f"{name} is not connected: found a connection to {other}; "
            f"`perennial disconnect -c {other}` removes that"
        )
    for file, _ in mine:
        file.unlink(missing_ok=True)
    return mine[0][1] if mine else None


def current() -> Connection | None:
    """Read which cluster a plain ``Client()`` reaches; None for Dask's own LocalCluster."""
    return next((connection for _, connection in _written()), None)


def dask_config(connection: Connection) -> Config:
    """Write Dask's configuration for a client of the cluster."""
    config: Config = {}
    for path, value in settings(connection).items():
        inner = config
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
    links = {"dashboard-link": connection.dashboard_link, "jupyter-url": connection.jupyter_url}
    ours = {key: link for key, link in links.items() if link is not None}
    return {**config, "perennial": {"cluster": connection.cluster, **ours}}


def link_template(link: str) -> str:
    """Write a dashboard's link as Dask wants it, with ``{port}`` for the dashboard's port.

    Dask uses the same template for a LocalCluster, whose dashboard has another port.
    """
    escaped = link.replace("{", "{{").replace("}", "}}")
    return _DASHBOARD_PORT.sub("{port}", escaped, count=1)


def variables(connection: Connection) -> dict[str, str]:
    """Return the environment variables that do the same as `write`, for one shell alone.

    Parameters
    ----------
    connection : Connection
        How the cluster is reached.
    """
    return {
        "DASK_" + "__".join(part.upper().replace("-", "_") for part in path): value
        for path, value in settings(connection).items()
    }


def exports(connection: Connection) -> str:
    """Write `variables` for ``eval "$(perennial env)"``.

    Parameters
    ----------
    connection : Connection
        How the cluster is reached.
    """
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in variables(connection).items()
    )


def settings(connection: Connection) -> dict[tuple[str, ...], str]:
    """Return Dask's settings for a connection, by key path."""
    settings: dict[tuple[str, ...], str] = {_ADDRESS: connection.scheduler_address}
    if connection.tls is not None:
        settings.update(zip((_CA, _CERT, _KEY), _files(connection), strict=True))
    if connection.dashboard_link is not None:
        settings[_LINK] = link_template(connection.dashboard_link)
    return settings


def _files(connection: Connection) -> tuple[str, ...]:
    tls = connection.tls
    return () if tls is None else (tls.ca, tls.cert, tls.key)


def _stronger_variables(connection: Connection) -> list[str]:
    """Name the variables of this shell that lead elsewhere than what `write` has written."""
    return [
        f"{name}={os.environ[name]} is set in this shell and wins; `unset {name}` to reach "
        f"{connection.cluster} from it"
        for name, value in variables(replace(connection, dashboard_link=None)).items()
        if os.environ.get(name, value) != value
    ]


def _refuse_contradictions(target: Path, connection: Connection) -> None:
    """Raise when another file that the user wrote sets what a connection sets."""
    if target.exists() and _value(_compose(target), _CLUSTER) is None:
        raise PerennialError(
            f"{target}: found a file that `perennial connect` did not write; rename it, Dask "
            "reads it under every name that ends in .yaml"
        )
    others = [
        file
        for file in sorted(target.parent.glob("*"))
        if file.suffix.lower() in (".yaml", ".yml", ".json") and file != target
    ]
    named = os.environ.get("DASK_CONFIG", "")
    stronger = [Path(named)] if named and os.path.isfile(named) else []
    for file in (*others, *stronger):
        root = _compose(file)
        # Dask reads a folder's files in the order of their names, and the last one wins.
        wins = file in stronger or file.name > target.name
        for path, value in settings(replace(connection, dashboard_link=None)).items():
            found = _scalar(root, path)
            if found is None or found.value == value:
                continue
            if found.tag.endswith(":null") and not wins:
                continue
            raise PerennialError(
                f"{file}:{found.start_mark.line + 1}: {'.'.join(path)}: found {found.value}, "
                f"which contradicts the connection to {connection.cluster}; remove that line, "
                "or use `perennial env` in place of `perennial connect`"
            )


def _written() -> Iterator[tuple[Path, Connection]]:
    """Find the files that `write` has made, the one that wins first."""
    for folder in paths.dask_config_homes():
        file = folder / FILE
        root = _compose(file)
        cluster, address = _value(root, _CLUSTER), _value(root, _ADDRESS)
        if cluster is None or address is None:
            continue
        files = [_value(root, path) for path in (_CA, _CERT, _KEY)]
        tls = [file for file in files if file is not None]
        yield (
            file,
            Connection(
                cluster,
                address,
                dashboard_link=_value(root, ("perennial", "dashboard-link")),
                tls=Tls(*tls) if len(tls) == 3 else None,
                jupyter_url=_value(root, ("perennial", "jupyter-url")),
            ),
        )


def _compose(file: Path) -> yaml.Node | None:
    """Read a YAML file with its line numbers; None where Dask reads nothing either."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return None
    except UnicodeDecodeError:
        raise PerennialError(
            f"{file}: not UTF-8 text, so Dask cannot start; correct it or remove it"
        ) from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise PerennialError(
            f"{where}: not valid YAML, so Dask cannot start; correct it or remove it"
        ) from None


def _scalar(root: yaml.Node | None, path: tuple[str, ...]) -> yaml.ScalarNode | None:
    """Find a key's value; ``-`` and ``_`` are the same letter, as in Dask."""
    node = root
    for part in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        matches = [value for key, value in pairs if str(key.value).replace("_", "-") == part]
        node = matches[-1] if matches else None
    return node if isinstance(node, yaml.ScalarNode) else None


def _value(root: yaml.Node | None, path: tuple[str, ...]) -> str | None:
    node = _scalar(root, path)
    return None if node is None else str(node.value)
