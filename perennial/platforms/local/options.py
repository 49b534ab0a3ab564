"""The local machine: services under a supervisord of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from perennial.spec.options import PlatformOptions
from perennial.spec.units import AbsolutePath, Refusal

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec


class Options(PlatformOptions):
    """The local machine, under a supervisord of the user's own."""

    address: str = Field(default="127.0.0.1", examples=["192.168.1.20"])
    """IP address on which the scheduler and the workers listen. Loopback is reached from this
    machine alone; Jupyter always listens on loopback, and the dashboard unless it is opened."""

    temporary_directory: AbsolutePath | None = Field(default=None, examples=["/scratch"])
    """Folder for what workers spill to disk; the cluster's state folder when it is not given."""

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what only other machines need."""
        if spec.environment.requirements is not None:
            yield Refusal(
                "python on the platform local",
                "install them yourself and write `python: PATH`, or nothing",
                ("environment", "requirements"),
            )
        if spec.jupyter is not None and spec.jupyter.certificate is not None:
            yield Refusal(
                "nothing on the platform local, where JupyterLab is on loopback",
                "remove certificate and key",
                ("jupyter", "certificate"),
            )
