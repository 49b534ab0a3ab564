"""Keys as people hand them over: host keys to know a machine by, private keys to log in with. Pure.

`ssh` passes over what it cannot read in a file of known hosts, and a login then fails as if the
machine were another one. So what is wrong with a key is found here.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator

#: In the place of a host key: OpenSSH's word for taking the first one that a machine shows.
ACCEPT_NEW = "accept-new"
#: Before the key of an authority that signs host keys.
AUTHORITY = "@cert-authority"
#: What is allowed, in messages.
PUBLIC = "a public key as OpenSSH writes it, such as `ssh-ed25519 AAAA…`, one a line"
PRIVATE = "the text of a private key that has no passphrase"
#: Longest text that is taken for a key.
LONGEST = 16_384

#: Kinds of a public key.
_KINDS = (
    *("ssh-ed25519", "ssh-rsa"),
    *("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
)
_PRIVATE = re.compile(
    r"-----BEGIN (?P<kind>(?:[A-Z]+ )*)PRIVATE KEY-----\n"
    r"(?:[A-Za-z-]+: [^\n]*\n)*\n?"
    r"[A-Za-z0-9+/=\n]+-----END (?P=kind)PRIVATE KEY-----\n"
)


class KeyTextError(ValueError):
    """A text is no key: what was found instead, never the text itself."""


def known_hosts(text: str) -> str:
    """Write host keys, one a line, as a file of known hosts for one machine alone."""
    return "".join(
        f"{AUTHORITY + ' ' if is_authority else ''}* {kind} {blob}\n"
        for is_authority, kind, blob in _public(text)
    )


def fingerprints(text: str) -> str:
    """Return the fingerprints of host keys, as `ssh` shows them."""
    found = []
    for _, kind, blob in _public(text):
        digest = b64encode(hashlib.sha256(b64decode(blob)).digest()).decode().rstrip("=")
        found.append(f"{kind} SHA256:{digest}")
    return ", ".join(found)


def _public(text: str) -> Iterator[tuple[bool, str, str]]:
    if is_private(text):
        raise KeyTextError("a private key")
    lines = [line.split() for line in text.splitlines()]
    keys = [words for words in lines if words and not words[0].startswith("#")]
    if not keys:
        raise KeyTextError("no key")
    for words in keys:
        is_authority = words[0] == AUTHORITY
        kind, blob = (*words[is_authority:], "", "")[:2]
        if "-cert-v01@" in kind:
            raise KeyTextError("a host certificate, not a key")
        if kind not in _KINDS:
            raise KeyTextError("something that begins with no kind of key")
        if not _is_of(kind, blob):
            raise KeyTextError(f"a damaged key of the kind {kind}")
        yield is_authority, kind, blob


def _is_of(kind: str, blob: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        b64decode(blob, validate=True)  # cryptography ignores letters that are no base64
        load_ssh_public_key(f"{kind} {blob}".encode())
    except ValueError:
        return False
    except UnsupportedAlgorithm:
        return True  # such as a hardware token's, which `ssh` knows
    return True


def is_private(text: str) -> bool:
    """Whether a text means to be a private key."""
    return "PRIVATE KEY" in text


def private_key(text: str) -> str:
    """Return the text of a private key as `ssh` reads it: with a line feed after each line."""
    lines = [line.strip() for line in text.strip().splitlines()]
    found = _PRIVATE.fullmatch("\n".join(lines) + "\n") if len(text) <= LONGEST else None
    if found is None:
        raise KeyTextError("no private key")
    _require_open(found[0].encode(), found["kind"])
    return found[0]


def _require_open(key: bytes, kind: str) -> None:
    """Raise unless a private key can be read, and without a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_ssh_private_key,
    )

    load = load_ssh_private_key if kind == "OPENSSH " else load_pem_private_key
    try:
        load(key, None)
    except TypeError:
        raise KeyTextError("a private key with a passphrase") from None
    except ValueError:
        raise KeyTextError("a damaged private key") from None
    except UnsupportedAlgorithm:
        return  # such as a key of a hardware token, which `ssh` knows
