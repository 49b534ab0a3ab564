"""Take renewed TLS certificates into use without a restart.

Given with ``--preload`` to the scheduler, and with ``--preload`` and ``--preload-nanny`` to
workers. Every ``perennial.certificates.interval`` (10 s) it looks whether the certificate, the
key or the authority's certificate has changed, and loads them into the TLS contexts that the
process has. Connections made from then on use them, in both directions; those that stand live
on. A certificate whose key has not been written yet is tried again the next time.

A process that has trusted an authority trusts it until it restarts.

A scheduler also looks at the certificates of what registers, see `perennial.preloads.registration`.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from distributed import Scheduler, Worker

from perennial.preloads import registration, revoked
from perennial.preloads.watching import Watched

logger = logging.getLogger("distributed.perennial.certificates")


def dask_setup(server: Any) -> None:
    """Look for renewed certificates as long as the server lives."""
    role = "scheduler" if isinstance(server, Scheduler) else "worker"
    tls = server.security.get_tls_config_for_role(role)
    files = {
        what: Path(tls[what])
        for what in ("ca_file", "cert", "key")
        if tls[what] and "\n" not in tls[what]  # a certificate itself cannot be renewed
    }
    if isinstance(server, Scheduler) and tls["ca_file"] and tls["cert"]:
        registration.guard(server)
    if not {"ca_file", "cert"} <= set(files):
        return
    revoked.watch(server, files["ca_file"])
    seconds = parse_timedelta(dask.config.get("perennial.certificates.interval", 10), default="s")
    Renewal(server, files).follow(server, "perennial-certificates", seconds)


class Renewal(Watched):
    """The certificate files of a server, and which version of them is in use."""

    def __init__(self, server: Any, files: Mapping[str, Path]) -> None:
        super().__init__(files.values())
        self.server = server
        self.files = files

    def take(self) -> None:
        """Load the files into every context."""
        with snapshot(self.files) as paths:
            load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), paths)
            for context in contexts(self.server):
                load(context, paths)
        if self.used:
            logger.info("%s now uses the renewed %s", self.server.address_safe, self.files["cert"])

    def complain(self, error: OSError | ValueError) -> None:
        """Say that the certificate of before stays in use."""
        logger.warning(
            "%s keeps its certificate: %s cannot be used yet (%s); tries again",
            *(self.server.address_safe, self.files["cert"], error),
        )


def contexts(server: Any) -> list[ssl.SSLContext]:
    """All TLS contexts that a server accepts and makes connections with."""
    clients = list(Worker._initialized_clients) if isinstance(server, Worker) else []
    found = [
        *(getattr(listener, "server_args", {}).get("ssl_options") for listener in server.listeners),
        *(each.connection_args.get("ssl_context") for each in (server, server.rpc, *clients)),
    ]
    return list({id(context): context for context in found if context is not None}.values())


def load(context: ssl.SSLContext, paths: Mapping[str, str]) -> None:
    """Load certificate, key and authority into a context."""
    context.load_verify_locations(paths["ca_file"])
    context.load_cert_chain(paths["cert"], paths.get("key"))


@contextmanager
def snapshot(files: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Hold the present content of files in memory; give paths under which it can be read.

    What has been tried on a spare context must be what the others load, even when somebody
    writes the files in between: a context that got a certificate and then fails on its key
    has lost its old one. Never on a disk, because one of them is a private key.
    """
    with ExitStack() as stack:
        paths = {}
        for name, path in files.items():
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
            stack.callback(os.close, descriptor)
            os.write(descriptor, path.read_bytes())
            paths[name] = f"/proc/self/fd/{descriptor}"
        yield paths
