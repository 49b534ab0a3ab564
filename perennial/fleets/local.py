"""The local machine: services under a supervisord of the user's own."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """The local machine, under a supervisord of the user's own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    address: str = Field(default="127.0.0.1", examples=["192.168.1.20"])
    """IP address on which the scheduler and the workers listen. Loopback is reached from this
    machine alone; Jupyter and the dashboard always listen on loopback."""

    temporary_directory: str | None = Field(default=None, examples=["/scratch"])
    """Folder for what workers spill to disk; the cluster's state folder when it is not given."""
