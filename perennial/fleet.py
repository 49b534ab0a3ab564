"""The whole interface between the scaler and a platform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from perennial import registry
from perennial.errors import Busy, FleetMissing, NoCapacity, PerennialError
from perennial.observation import Member, Observation

__all__ = ["Fleet", "opened", "refusals"]


class Fleet(Protocol):
    """The members of one group on one platform.

    Synchronous, because SDKs, SSH and batch systems block; the scaler calls it in a thread. A
    fleet never clamps to a group's bounds, drains, sleeps or speaks to Dask.
    """

    #: Whether the caller says who leaves. If not, the platform picks, and `observe` lists the
    #: members in the order in which it would pick them.
    chooses: ClassVar[bool]

    def observe(self) -> Observation:
        """Look, in one consistent read; changes nothing.

        Raises
        ------
        FleetError
            The platform does not answer; `FleetMissing` when it does not know the fleet.
        """
        ...

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members; does not wait.

        ``to`` is absolute: saying it twice is saying it once. A running member that is not in
        ``leaving`` is never removed; one that is gone already is a success. With fewer in
        ``leaving`` than there are too many, only members that were asked for and have not
        started are given up. To remove a member and to lower the size are one action on the
        platform, or else the platform would replace it.

        Parameters
        ----------
        to : int
            Size.
        leaving : sequence of Member
            Who leaves; drained already.

        Returns
        -------
        int
            The size that the platform now holds.

        Raises
        ------
        NoCapacity
            The platform has no room for more.
        Busy
            The platform works on something else; try again later.
        FleetMissing
            The platform does not know the fleet.
        """
        ...


class FixedFleet:
    """A group of fixed size: members of the cluster file; their state, the scheduler knows.

    Without them the scaler would ask other groups for what these are there to do.
    """

    chooses: ClassVar[bool] = True

    def __init__(self, members: Sequence[str]) -> None:
        self.members = tuple(Member(name, name, "running") for name in members)

    def observe(self) -> Observation:
        """Tell of all of them; see `perennial.fleet.Fleet`."""
        size = len(self.members)
        return Observation(desired=size, members=self.members, settled=True, least=size, most=size)

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Give the size, which nobody changes; see `perennial.fleet.Fleet`."""
        return len(self.members)


@contextmanager
def refusals(prefix: str = "") -> Iterator[None]:
    """Raise what a resize may raise: whatever else fails can be asked again, so it is `Busy`."""
    try:
        yield
    except (NoCapacity, Busy, FleetMissing):
        raise
    except PerennialError as error:
        raise Busy(f"{prefix}{error}") from error


def opened(platform: str, handle: Mapping[str, Any]) -> Fleet:
    """Make a fleet from what the platform's deployment has said of it.

    Parameters
    ----------
    platform : str
        A platform of the registry, or a simulated one.
    handle : mapping
        JSON-able values: the keyword arguments of the fleet's class. One that lists the members
        themselves is that of a `FixedFleet`, on any platform.
    """
    if handle.keys() == {"members"}:
        return FixedFleet(**handle)
    opened: Fleet = registry.fleet(platform)(**handle)
    return opened
