"""The secret files of a machine: certificates signed on the operator's side, and the token.

A machine's certificates bear its own names, so another machine changes nothing here. They are
made once and stay until they must be renewed; their keys stand on the machine alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath

from perennial.authority import RENEW_WITHIN
from perennial.errors import FleetError
from perennial.platforms.hosts.agent.answers import Certificate, Look
from perennial.platforms.hosts.machine_services import MachineServices
from perennial.platforms.hosts.secrets import Secrets
from perennial.services import Service
from perennial.state import command


@dataclass(frozen=True, slots=True)
class Issued:
    """The secret files of a machine."""

    #: Path and text; the empty text for what stays as it is on the machine.
    files: Mapping[str, str]
    #: Paths of what stays.
    unchanged: frozenset[str]
    #: Paths of what the machine had and now gets another one of.
    renewed: tuple[str, ...]
    #: For the machine's manifest: what each certificate was made from.
    remember: Mapping[str, Certificate]
    #: When the first certificate that we renew ends, in ISO 8601; empty where there is none.
    expires: str


def issue(
    assigned: MachineServices, found: Look, secrets: Secrets, parts: Sequence[Service]
) -> Issued:
    """Make the secret files that a machine lacks; sign what must be renewed.

    Without the authority's key nothing is signed: the certificates that stand there stay.
    """
    paths = {PurePath(path).name: path for part in parts for path in part.access.secrets}
    before = found["manifest"].get("certificates", {})
    files: dict[str, str] = {}
    remember: dict[str, Certificate] = {}
    ends: list[str] = []
    for name, path in sorted(paths.items()):
        if name == "ca.pem":
            files[path] = secrets.ca
        elif name.endswith("-token"):
            files[path] = secrets.token
    if "jupyter.pem" in paths and secrets.jupyter_certificate and secrets.jupyter_key:
        files[paths["jupyter.pem"]] = secrets.jupyter_certificate
        files[paths["jupyter-key.pem"]] = secrets.jupyter_key
        # Its end is none of ours: only the operator can renew it.
        _end(secrets.jupyter_certificate, assigned.target.name)
    for role in assigned.roles:
        cert, key = paths[f"{role}.pem"], paths[f"{role}-key.pem"]
        known = before.get(role)
        if _stays(assigned, known, found, (cert, key), secrets) and known is not None:
            files |= {cert: "", key: ""}
            remember[role] = known
        else:
            pair = _sign(role, assigned, str(found["address"]), secrets)
            files |= {cert: pair[0], key: pair[1]}
            remember[role] = {
                "origin": _origin(assigned, str(found["address"]), secrets),
                "ends": _end(pair[0], assigned.target.name),
                "digests": [_digest(text) for text in pair],
            }
        ends.append(remember[role]["ends"])
    there = found["files"]
    return Issued(
        files=files,
        unchanged=frozenset(path for path, text in files.items() if not text),
        renewed=tuple(
            path
            for path, text in files.items()
            if text and path in there and there[path][0] != _digest(text)
        ),
        remember=remember,
        expires=min(ends, default=""),
    )


def _stays(
    assigned: MachineServices,
    known: Certificate | None,
    found: Look,
    paths: tuple[str, str],
    secrets: Secrets,
) -> bool:
    """Whether a certificate needs not be signed again; refuse to sign without the key."""
    same = known is not None and _same(known, found, *paths)
    if not same and not secrets.ca_key:
        raise FleetError(
            f"{assigned.target.name}: found {paths[0]} or its key other than it was"
            " deployed, and only"
            f" {command('up', assigned.cluster)} can sign another; run that first"
        )
    if known is None or not same or not secrets.ca_key:
        return same
    origin = _origin(assigned, str(found["address"]), secrets)
    return known["origin"] == origin and _fresh(known["ends"])


def _sign(role: str, assigned: MachineServices, address: str, secrets: Secrets) -> tuple[str, str]:
    from perennial import certificates

    authority = certificates.Pair(secrets.ca.encode(), secrets.ca_key.encode())
    names = tuple(dict.fromkeys((*assigned.names, address)))
    pair = certificates.make_certificate(authority, role, names, datetime.now(UTC))
    return pair.cert.decode(), pair.key.decode()


def _origin(assigned: MachineServices, address: str, secrets: Secrets) -> str:
    """Digest of all that a machine's certificate is made from."""
    return _digest("\n".join([secrets.ca, *assigned.names, address]))


def _fresh(end: str) -> bool:
    return datetime.fromisoformat(end) - datetime.now(UTC) > RENEW_WITHIN


def _same(known: Certificate, found: Look, cert: str, key: str) -> bool:
    """Whether the machine still has what was signed."""
    there = [found["files"].get(path, [None])[0] for path in (cert, key)]
    return bool(there == known["digests"])


def _end(pem: str, machine: str) -> str:
    from perennial import certificates

    end = certificates.ends(pem.encode())
    if end is None:
        raise FleetError(
            f"{machine}: jupyter.certificate holds no certificate; give a file in PEM format"
        )
    return end.isoformat()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
