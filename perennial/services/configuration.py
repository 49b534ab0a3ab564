"""Dask's configuration for a service: the user's own, and what is always set. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Dask's configuration, nested as in its files.
Config = dict[str, Any]


def nested(config: Mapping[str, Any]) -> Config:
    """Expand dotted keys, as people write them, into Dask's nested form."""
    result: Config = {}
    for key, value in config.items():
        inner: Any = nested(value) if isinstance(value, Mapping) else value
        for part in reversed(str(key).split(".")):
            inner = {part: inner}
        result = merge(result, inner)
    return result


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Config:
    """Lay one nested configuration over another."""
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result
