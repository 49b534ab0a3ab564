"""The schema of the package, for programs in any language."""

from __future__ import annotations


def schema() -> str:
    """Return the schema of the provider's resources and components."""
    return "{}"
