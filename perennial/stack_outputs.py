"""Clusters in a stack's outputs: the components write them, `connect --stack` reads them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from perennial.errors import PerennialError
from perennial.spec import ClusterSpec, parse

_FORMAT = "dask-perennial cluster"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ClusterOutputs:
    """A cluster, as its stack describes it."""

    #: The cluster file as it was deployed.
    spec: ClusterSpec = field(repr=False)
    #: How a client reaches it, with certificate, key and Jupyter's token.
    connection: Mapping[str, Any] = field(repr=False)


def describe(file: Any, connection: Any) -> dict[str, object]:
    """Write the output `cluster`: the text of a cluster file, and the output `connection`."""
    return {"format": _FORMAT, "version": _VERSION, "file": file, "connection": connection}


def clusters(outputs: Mapping[str, Any], source: str) -> dict[str, ClusterOutputs]:
    """Find the clusters in a stack's outputs, whatever these are called, by name."""
    found: dict[str, ClusterOutputs] = {}
    for value in _described(outputs):
        if value.get("version") != _VERSION:
            raise PerennialError(
                f"{source}: found a cluster of version {value.get('version')}, this perennial reads"
                f" version {_VERSION}; install the version that the stack was deployed with"
            )
        cluster = ClusterOutputs(
            parse(value["file"], source, remembered=True).spec, value["connection"]
        )
        if found.setdefault(cluster.spec.name, cluster) != cluster:
            raise PerennialError(
                f"{source}: found two clusters named {cluster.spec.name}; give one another name"
            )
    return found


def _described(value: Any) -> Iterator[Mapping[str, Any]]:
    """Look also inside: a program may export a mapping of clusters, or a whole component."""
    if isinstance(value, Mapping):
        if value.get("format") == _FORMAT:
            yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _described(inner)
