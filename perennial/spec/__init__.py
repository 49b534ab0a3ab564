"""The cluster file: strict models, sizes and durations as people write them, one-line errors."""

from perennial.spec.models import ClusterSpec, WorkerGroup, cluster_model

__all__ = ["ClusterSpec", "WorkerGroup", "cluster_model"]
