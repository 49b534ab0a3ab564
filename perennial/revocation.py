"""Certificates that are issued to one person each, and the list of those that are revoked.

Both stand beside the authority that has signed them and end with it. The record says who has which
certificate; its key is in the person's bundle alone. Dask's processes read the list, a CRL, through
`perennial.preloads.revoked`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial import authority
from perennial.errors import PerennialError
from perennial.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from perennial.certificates import Pair

#: The list of revoked certificates, beside ``ca.pem``.
LIST = "revoked.pem"
#: Who has which certificate.
RECORD = "issued.json"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was issued to a person."""

    #: The name that ``--for`` has given.
    person: str
    #: The certificate's serial number, in hexadecimal.
    serial: str
    #: When it was revoked, in ISO 8601; empty while it holds.
    revoked: str = ""


def issued(tls_dir: Path) -> tuple[Issued, ...]:
    """Read which certificates were issued to people, in order."""
    file = tls_dir / RECORD
    value: Any = read_json(file, [])
    try:
        found = tuple(Issued(**each) for each in value)
        if all(isinstance(text, str) for each in found for text in asdict(each).values()):
            [int(each.serial, 16) for each in found]
            return found
    except (TypeError, ValueError):
        pass
    raise PerennialError(
        f"{file} is damaged: it is no record of certificates; restore it from a backup, or"
        " `perennial rotate --ca` ends all certificates and begins a new one"
    )


def issue(tls_dir: Path, cluster: str, person: str) -> Pair:
    """Issue a client's certificate with a key of its own to one person, and record it."""
    from perennial import certificates

    if not _NAME.fullmatch(person):
        raise PerennialError(
            f"{person!r}: not a name for a certificate; allowed: up to 64 letters, digits and"
            " . _ @ + - between them, such as ada@example.org"
        )
    known = issued(tls_dir)
    signer = authority.signer(tls_dir, cluster)
    pair = certificates.make_certificate(signer, "client", (), datetime.now(UTC), person=person)
    new = Issued(person, f"{certificates.serial(pair.cert):x}")
    # Recorded before anybody has it: what is not recorded cannot be revoked.
    _save(tls_dir, (*known, new))
    return pair


def revoke(tls_dir: Path, cluster: str, person: str) -> int:
    """Revoke every certificate of a person; return how many were not revoked before."""
    known = issued(tls_dir)
    theirs = [each for each in known if each.person == person]
    if not theirs:
        people = ", ".join(dict.fromkeys(each.person for each in known if not each.revoked))
        raise PerennialError(
            f"{person!r}: no certificate has this name in {cluster}; there is"
            f" {people or 'none for anybody'}; `perennial rotate --ca` makes all bundles invalid,"
            " also those without a name"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    after = tuple(
        replace(each, revoked=now) if each.person == person and not each.revoked else each
        for each in known
    )
    _save(tls_dir, after)
    _write_list(tls_dir, cluster, after)
    return sum(not each.revoked for each in theirs)


def ensure(tls_dir: Path, cluster: str) -> None:
    """Make the list again where it is missing although something is revoked."""
    known = issued(tls_dir)
    if not (tls_dir / LIST).exists() and any(each.revoked for each in known):
        _write_list(tls_dir, cluster, known)


def _save(tls_dir: Path, known: Sequence[Issued]) -> None:
    write_json(tls_dir / RECORD, [asdict(each) for each in known])


def _write_list(tls_dir: Path, cluster: str, known: Sequence[Issued]) -> None:
    from perennial import certificates

    file = tls_dir / LIST
    before = file.read_bytes() if file.exists() else b""
    serials = [int(each.serial, 16) for each in known if each.revoked]
    signer = authority.signer(tls_dir, cluster)
    write_atomic(file, certificates.make_revocations(signer, serials, datetime.now(UTC), before))
