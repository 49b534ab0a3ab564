"""Refuse revoked certificates on every connection that a Dask process accepts.

`perennial.preloads.certificates` starts this where a process has TLS. Each second it looks for
``revoked.pem`` beside the authority's certificate: a CRL of that authority. A new one is loaded
into the TLS contexts, so that a handshake with a revoked certificate fails; and the connections
of its holder that stand are closed. A handshake that began before, or that resumes an older
session, is not verified again: so each connection is also looked at after its handshake, before a
byte of Dask's is read from it.

A process that has loaded a list keeps it when the file is gone.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from perennial.preloads.watching import Watched

logger = logging.getLogger("distributed.perennial.revoked")

#: Beside the authority's certificate.
LIST = "revoked.pem"
#: Seconds between two looks; each costs one look at a file's date.
INTERVAL = 1.0


def watch(server: Any, authority: Path) -> None:
    """Refuse what is revoked, from now on and as long as the server lives."""
    revocation = Revocation(server, authority)
    revocation.look()
    revocation.follow(server, "perennial-revoked", INTERVAL)


class Revocation(Watched):
    """The list of revoked certificates, as a server has it in use."""

    def __init__(self, server: Any, authority: Path) -> None:
        self.server = server
        self.authority = authority
        self.file = authority.with_name(LIST)
        super().__init__([self.file])
        self.serials: frozenset[int] = frozenset()
        for listener in server.listeners:
            if hasattr(listener, "_prepare_stream"):
                listener._prepare_stream = self._refusing(listener._prepare_stream)

    def take(self) -> None:
        """Refuse what is on the list, and close what its certificates have opened."""
        serials = read(self.file, self.authority)
        for listener in self.server.listeners:
            context = getattr(listener, "server_args", {}).get("ssl_options")
            if context is not None:
                context.load_verify_locations(str(self.file))
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        self.serials = serials
        closed = 0
        for comm in list(self.server._comms):
            if _serial(comm.extra_info.get("peercert")) in serials:
                comm.abort()
                closed += 1
        logger.info("refuses %d revoked certificates; closed %d connections", len(serials), closed)

    def complain(self, error: OSError | ValueError) -> None:
        """Say that the list of before stays in use."""
        logger.error(
            "%s cannot be used (%s): what is new in it is not refused; tries again",
            *(self.file, error),
        )

    def _refusing(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Let a listener refuse a stream after its handshake when its certificate is revoked."""

        @wraps(prepare)
        async def refusing(stream: Any, address: Any) -> Any:
            ready = await prepare(stream, address)
            if ready is None or not self.serials:
                return ready
            if _serial(ready.socket.getpeercert()) in self.serials:
                logger.warning("refused a revoked certificate from %s", address)
                ready.close()
                return None
            return ready

        return refusing


def read(file: Path, authority: Path) -> frozenset[int]:
    """Read the serial numbers on a list; ValueError for one that the authority has not signed."""
    from cryptography import x509

    found = x509.load_pem_x509_crl(file.read_bytes())
    key = x509.load_pem_x509_certificate(authority.read_bytes()).public_key()
    if not found.is_signature_valid(key):  # type: ignore[arg-type]
        raise ValueError("signed by another authority")
    return frozenset(each.serial_number for each in found)


def _serial(certificate: Any) -> int | None:
    """Read the serial number of a peer's certificate; None where ssl describes none."""
    number = (certificate or {}).get("serialNumber")
    return None if number is None else int(number, 16)
