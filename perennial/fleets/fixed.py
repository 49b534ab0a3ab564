"""A group whose size is not the scaler's, and that still does some of the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from perennial.observation import Member, Observation


class FixedFleet:
    """Members that stand in the cluster file; what has become of them, the scheduler knows.

    Without them the scaler would ask other groups for what these are there to do.
    """

    chooses: ClassVar[bool] = True

    def __init__(self, members: Sequence[str]) -> None:
        self.members = tuple(Member(name, name, "running") for name in members)

    def observe(self) -> Observation:
        """Tell of all of them; see `perennial.fleets.fleet.Fleet`."""
        size = len(self.members)
        return Observation(desired=size, members=self.members, settled=True, least=size, most=size)

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Give the size, which nobody changes; see `perennial.fleets.fleet.Fleet`."""
        return len(self.members)
