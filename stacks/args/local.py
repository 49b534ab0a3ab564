"""Typed arguments of local; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from .common import ClusterArgs


@dataclass(kw_only=True)
class LocalOptionsArgs:
    """The local machine, under a supervisord of the user's own."""

    address: pulumi.Input[str] | None = None
    """IP address on which the scheduler and the workers listen. Loopback is reached from this
    machine alone; Jupyter always listens on loopback, and the dashboard unless it is opened.
    Default: `127.0.0.1`."""
    temporary_directory: pulumi.Input[str] | None = None
    """Folder for what workers spill to disk; the cluster's state folder when it is not given."""


@dataclass(kw_only=True)
class LocalClusterArgs(ClusterArgs):
    """A standing Dask cluster, described once."""

    local: LocalOptionsArgs | Mapping[str, Any] | None = None
