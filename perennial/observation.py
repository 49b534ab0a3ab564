"""What a platform says of a group: its members, in one consistent read. Standard library alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MemberState = Literal["starting", "running", "leaving"]


@dataclass(frozen=True, slots=True)
class Member:
    """One removable piece of a group, as its platform knows it."""

    #: The platform's own name.
    id: str
    #: Dask's ``--name``: the only join between the platform's view and the scheduler's.
    worker: str
    #: ``leaving`` once the platform has been told that it goes.
    state: MemberState


@dataclass(frozen=True, slots=True)
class Observation:
    """A fleet in one consistent read."""

    #: Size that the platform holds; what was last asked of it.
    desired: int
    #: What exists.
    members: tuple[Member, ...] = ()
    #: Whether the platform works on nothing: what exists is what is desired.
    settled: bool = True
    #: Sizes that the platform holds, for what a member may use; None where it has no limit.
    #: `Fleet.resize` may take more, up to what the platform can do at all.
    least: int = 0
    most: int | None = None
    # How busy a platform is says nothing of whether it has come nearer to what was asked for.
    room: str = field(default="", compare=False)
    #: Members that may be on their way at a time while the platform is as busy as it is; None where
    #: it has no limit.
    step: int | None = field(default=None, compare=False)
    #: Size beyond which `Fleet.resize` takes none, even when it is meant; None where the platform
    #: finds out.
    utmost: int | None = None
    #: What sets it and what to do about it, as the end of a refusal.
    beyond: str = field(default="", compare=False)
