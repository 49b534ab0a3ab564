"""Standing Dask clusters as code."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["Cluster", "__version__"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from perennial.notebook import Cluster as Cluster


def __getattr__(name: str) -> Any:
    """Load what needs Dask when it is asked for: the command line does without."""
    if name != "Cluster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not an import statement: nothing below would be free of what a notebook needs.
    return import_module("perennial.notebook").Cluster
