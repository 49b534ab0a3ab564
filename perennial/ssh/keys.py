"""Keys as people hand them over: host keys to know a machine by, private keys to log in with. Pure.

`ssh` passes over what it cannot read in a file of known hosts, and a login then fails as if the
machine were another one. So what is wrong with a key is found here.
"""

from __future__ import annotations

import hashlib
import re
import struct
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

#: Kind of a public key → of how many parts it consists, its kind among them.
_PARTS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
_PRIVATE = re.compile(
    r"-----BEGIN (?P<kind>(?:[A-Z]+ )*)PRIVATE KEY-----\n"
    r"(?P<head>(?:[A-Za-z-]+: [^\n]*\n)*)\n?"
    r"(?P<body>[A-Za-z0-9+/=\n]+)-----END (?P=kind)PRIVATE KEY-----\n"
)
_MAGIC = b"openssh-key-v1\0"


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
        if kind not in _PARTS:
            raise KeyTextError("something that begins with no kind of key")
        if not _is_of(kind, blob):
            raise KeyTextError(f"a damaged key of the kind {kind}")
        yield is_authority, kind, blob


def _is_of(kind: str, blob: str) -> bool:
    try:
        parts = [*_strings(b64decode(blob, validate=True))]
    except ValueError:
        return False
    if len(parts) != _PARTS[kind] or parts[0] != kind.encode() or not all(parts):
        return False
    return kind != "ssh-ed25519" or len(parts[1]) == 32


def _strings(data: bytes) -> Iterator[bytes]:
    """Read strings, each behind its length; ValueError where one is cut off."""
    while data:
        if len(data) < 4 or len(data) - 4 < (length := struct.unpack(">I", data[:4])[0]):
            raise ValueError
        yield data[4 : 4 + length]
        data = data[4 + length :]


def is_private(text: str) -> bool:
    """Whether a text means to be a private key."""
    return "PRIVATE KEY" in text


def private_key(text: str) -> str:
    """Return the text of a private key as `ssh` reads it: with a line feed after each line."""
    lines = [line.strip() for line in text.strip().splitlines()]
    found = _PRIVATE.fullmatch("\n".join(lines) + "\n") if len(text) <= LONGEST else None
    if found is None:
        raise KeyTextError("no private key")
    try:
        body = b64decode(found["body"].replace("\n", ""), validate=True)
    except ValueError:
        raise KeyTextError("a damaged private key") from None
    if found["kind"] == "OPENSSH ":
        locked = not _is_open(body)
    else:
        locked = "ENCRYPTED" in found["kind"] + found["head"]
    if locked:
        raise KeyTextError("a private key with a passphrase")
    return found[0]


def _is_open(body: bytes) -> bool:
    """Whether a key of OpenSSH's own format has no passphrase."""
    if not body.startswith(_MAGIC):
        raise KeyTextError("a damaged private key")
    rest = body[len(_MAGIC) :]
    try:
        cipher = next(_strings(rest))
        if cipher != b"none":
            return False
        # Cipher, derivation and its options; the number of keys; a public and a private half.
        options = 4 + len(cipher)
        for _ in range(2):
            options += 4 + len(next(_strings(rest[options:])))
        halves = [*_strings(rest[options + 4 :])]
    except (ValueError, StopIteration):
        raise KeyTextError("a damaged private key") from None
    if rest[options : options + 4] != struct.pack(">I", 1) or len(halves) != 2:
        raise KeyTextError("a damaged private key")
    return True
