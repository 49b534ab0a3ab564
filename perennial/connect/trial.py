"""Try a plain ``Client()`` in a new process: which address it uses, and whether that answers.

The process has the caller's environment, so that Dask itself says which of its many sources wins.
It makes a TLS connection with what it found and reads nothing from it, because whatever arrives by
Dask's protocol is unpickled.

Runs there as ``python -P -m perennial.connect.trial``.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

from perennial.connect.configuration import settings
from perennial.connect.connection import Connection

#: Seconds for the new process, and for one answer of the scheduler's.
TIMEOUT, ANSWER = 60.0, 5.0
_ADDRESS = "scheduler-address"


def problem(connection: Connection) -> str | None:
    """Try a plain ``Client()``; why it does not reach the cluster, None when it does."""
    expected = {
        ".".join(path): value
        for path, value in settings(replace(connection, dashboard_link=None)).items()
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "perennial.connect.trial"],
        input=json.dumps(expected),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return f"fails: {said[-1].strip() if said else f'exit code {done.returncode}'}"
    return cast("str | None", json.loads(done.stdout))


def main() -> None:
    """Compare what Dask reads here with what is expected, and connect."""
    print(json.dumps(_found(json.load(sys.stdin))))


def _found(expected: Mapping[str, str]) -> str | None:
    from dask import config

    found = {key: config.get(key, None) for key in expected}
    for key, value in expected.items():
        if found[key] != value:
            return _other_target(key, found[key])
    error = _connect({key.rpartition("tls.")[2]: value for key, value in expected.items()})
    return error and f"does not reach it: {expected[_ADDRESS]}: {error}"


def _other_target(key: str, value: Any) -> str:
    """Say where Client() connects instead, and which setting makes it do so."""
    if value is None:
        does = "starts a LocalCluster" if key == _ADDRESS else "does not reach it"
        return f"{does}: Dask finds no {key}; run `perennial connect`"
    does = f"reaches {value} instead" if key == _ADDRESS else f"does not reach it: {key} is {value}"
    name, remedy = _origin(key)
    return f"{does}: {name} wins; {remedy}"


def _origin(key: str) -> tuple[str, str]:
    """Name what sets a key in this process, and how that is undone."""
    from dask import config

    for name, value in os.environ.items():
        if name.startswith("DASK_") and _has(config.collect_env({name: value}), key):
            return f"{name} in this shell", f"`unset {name}`"
    files = [str(path) for path in config.paths_containing_key(key)]
    return (files[-1], f"remove {key} there") if files else ("something else", "look for it")


def _has(config: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(config, Mapping):
            return False
        names = [name for name in config if str(name).replace("_", "-") == part]
        if not names:
            return False
        config = config[names[0]]
    return True


def _connect(values: Mapping[str, str]) -> str | None:
    """Connect as a client does; what goes wrong. Protocols without TCP are not tried."""
    parts = urlsplit(values[_ADDRESS])
    if parts.scheme not in ("tcp", "tls") or parts.port is None:
        return None
    try:
        with socket.create_connection((parts.hostname or "", parts.port), ANSWER) as plain:
            if parts.scheme == "tls":
                context = ssl.create_default_context(cafile=values["ca-file"])
                context.check_hostname = False  # as Dask does: the authority is the cluster's own
                context.load_cert_chain(values["client.cert"], values["client.key"])
                with context.wrap_socket(plain) as connection:
                    return _greeted(connection)
            return _greeted(plain)
    except OSError as error:  # ssl.SSLError is one
        return error.strerror or str(error)


def _greeted(connection: socket.socket) -> str | None:
    """Wait for the first byte: with TLS 1.3 a certificate is refused only after the handshake."""
    return None if connection.recv(1) else "the connection was closed at once"


if __name__ == "__main__":
    main()
