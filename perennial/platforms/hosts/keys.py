"""Keys in a cluster file: the files that they are in, or their texts. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from perennial.spec.units import Refusal, Worded, refuse_all
from perennial.ssh import keys

Path = Annotated[
    str,
    Worded(
        "A file, absolute or under ~/.",
        "~/.ssh/id_ed25519",
        r"(/|~/)[^\u0000-\u001f\u007f]*",
        "a path, absolute or under ~/",
        "write a path that begins with / or ~/",
    ),
]


def _refused(found: str, allowed: str, fix: str) -> Exception:
    """Refuse a value without showing it."""
    return refuse_all([Refusal(allowed, fix, found=found)])


def _identity(value: Any) -> Any:
    if isinstance(value, str) and keys.is_private(value):
        fix = "write the text under private_key, or the path of its file here"
        raise _refused("the text of a private key", "a path, absolute or under ~/", fix)
    return value


def _private_key(value: Any) -> Any:
    fix = "make one with `ssh-keygen -N ''`, or name a key with a passphrase as identity"
    if not isinstance(value, str):
        raise _refused("no text", keys.PRIVATE, fix)
    try:
        return keys.private_key(value)
    except keys.KeyTextError as error:
        raise _refused(str(error), keys.PRIVATE, fix) from None


def _host_key(value: Any) -> Any:
    allowed = f"{keys.PUBLIC}, or {keys.ACCEPT_NEW}"
    fix = "copy what is in /etc/ssh/ssh_host_ed25519_key.pub there"
    if not isinstance(value, str) or len(value) > keys.LONGEST:
        raise _refused("no text of that kind", allowed, fix)
    if value != keys.ACCEPT_NEW:
        try:
            keys.known_hosts(value)
        except keys.KeyTextError as error:
            raise _refused(str(error), allowed, fix) from None
    return value


Identity = Annotated[Path, BeforeValidator(_identity)]

PrivateKey = Annotated[
    str,
    Field(max_length=keys.LONGEST + 1),
    BeforeValidator(_private_key),
    WithJsonSchema(
        {
            "type": "string",
            "description": "The text of a private key.",
            "writeOnly": True,
            "pattern": "PRIVATE KEY-----",
            "patternErrorMessage": f"Allowed: {keys.PRIVATE}.",
        }
    ),
]

HostKey = Annotated[
    str,
    Field(max_length=keys.LONGEST),
    BeforeValidator(_host_key),
    WithJsonSchema(
        {
            "type": "string",
            "description": "Public host keys, one a line.",
            "examples": [keys.ACCEPT_NEW],
            "pattern": r"^accept-new$|(ssh-|ecdsa-|sk-)\S+\s+[A-Za-z0-9+/=]+",
            "patternErrorMessage": f"Allowed: {keys.PUBLIC}, or {keys.ACCEPT_NEW}.",
        }
    ),
]
