"""The cluster file: strict models, sizes and durations as people write them, one-line errors."""

from perennial.spec.json_schema import schema
from perennial.spec.models import ClusterSpec, WorkerGroup, cluster_model
from perennial.spec.reading import Document, dump, load, loads, parse, plain, read

__all__ = [
    "ClusterSpec",
    "Document",
    "WorkerGroup",
    "cluster_model",
    "dump",
    "load",
    "loads",
    "parse",
    "plain",
    "read",
    "schema",
]
