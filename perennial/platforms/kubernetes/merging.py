"""Lays one piece of a pod's specification over another as Kubernetes does. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: An object of Kubernetes or a part of one, as its API takes it.
Manifest = dict[str, Any]

#: Lists whose entries are merged, and the key that tells them apart; others are replaced.
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "hostAliases": "ip",
}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Manifest:
    """Merge strategically: mappings by key, lists of named entries by name; null removes a key."""
    result = dict(below)
    for key, value in above.items():
        found = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = merged(found if isinstance(found, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(found, list) and key in KEYS:
            result[key] = _entries(found, value, KEYS[key])
        else:
            result[key] = value
    return result


def _entries(below: list[Any], above: list[Any], name: str) -> list[Any]:
    result = list(below)
    for entry in above:
        same = (index for index, other in enumerate(result) if other.get(name) == entry.get(name))
        at = next(same, None)
        if at is None:
            result.append(entry)
        else:
            result[at] = merged(result[at], entry)
    return result
