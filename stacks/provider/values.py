"""Values between the engine's messages and Python. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2
from pulumi.runtime.rpc import UNKNOWN, _special_secret_sig, _special_sig_key

Values = dict[str, Any]
Kind = provider_pb2.PropertyDiff.Kind

#: Stands for `null`, which the engine leaves out.
_NULL = "\ue010null"
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def plain(message: Struct) -> Values:
    """Read a message: secrets in the clear, whole numbers as such, unknown values as UNKNOWN."""
    found: Values = decoded(MessageToDict(message))
    return found


def decoded(value: Any) -> Any:
    """Read values as the engine has kept them."""
    if isinstance(value, dict):
        if value.get(_special_sig_key) == _special_secret_sig:
            return decoded(value.get("value"))
        return {key: decoded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [decoded(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None if value == _NULL else value


def has_secrets(message: Struct, besides: str = "") -> bool:
    """Whether any input is secret, or a part of it."""
    return any(_is_secret(value) for key, value in MessageToDict(message).items() if key != besides)


def _is_secret(value: Any) -> bool:
    if isinstance(value, dict):
        marked = value.get(_special_sig_key) == _special_secret_sig
        return marked or any(map(_is_secret, value.values()))
    return isinstance(value, list) and any(map(_is_secret, value))


def message(values: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> Struct:
    """Write a message, in which some values are encrypted wherever they are kept."""
    found = Struct()
    found.update(
        {
            key: {_special_sig_key: _special_secret_sig, "value": value}
            if key in secrets
            else value
            for key, value in values.items()
        }
    )
    return found


def keep_nulls(value: Any) -> Any:
    """Write `null` so that the engine keeps it; `plain` reads it back."""
    if isinstance(value, Mapping):
        return {key: keep_nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [keep_nulls(inner) for inner in value]
    return _NULL if value is None else value


def is_known(value: Any) -> bool:
    """Whether no part of a value is known only when the deployment has come to it."""
    if isinstance(value, dict):
        return all(map(is_known, value.values()))
    if isinstance(value, list):
        return all(map(is_known, value))
    return bool(value != UNKNOWN)


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Kind.ValueType]]:
    """List what differs, by the engine's property paths."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*old, *(key for key in new if key not in old)):
            yield from _inner(old, new, key, _joined(path, key))
    elif isinstance(old, list) and isinstance(new, list):
        before, after = dict(enumerate(old)), dict(enumerate(new))
        for key in range(max(len(old), len(new))):
            yield from _inner(before, after, key, f"{path}[{key}]")
    elif old != new:
        yield path, Kind.UPDATE


def _inner(old: Any, new: Any, key: Any, path: str) -> Iterator[tuple[str, Kind.ValueType]]:
    if key not in new:
        yield path, Kind.DELETE
    elif key not in old:
        yield path, Kind.ADD
    else:
        yield from differences(old[key], new[key], path)


def _joined(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        quoted = key.replace("\\", "\\\\").replace('"', '\\"')
        return f'{path}["{quoted}"]'
    return f"{path}.{key}" if path else key
