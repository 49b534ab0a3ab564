"""The whole interface between the scaler and a platform."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from perennial import registry
from perennial.errors import Busy, FleetMissing, NoCapacity, PerennialError
from perennial.observation import Member, Observation

__all__ = ["FixedHandle", "Fleet", "Handle", "chosen", "opened", "read", "refusals", "written"]


class Handle(BaseModel):
    """What a deployment hands the scaler, by which it opens the fleet of a group.

    Its fields are the arguments of the fleet's class. It is written as JSON into the scaler's
    configuration, where fields that have their default are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> dict[str, object]:
        """Write it for the scaler's configuration and for the outputs of a stack."""
        return self.model_dump(mode="json", exclude_defaults=True)


class FixedHandle(Handle):
    """The handle of a group that nobody resizes, on any platform."""

    members: tuple[str, ...]
    """Names of its members, as the scheduler knows them."""


class Fleet(Protocol):
    """The members of one group on one platform.

    Synchronous, because SDKs, SSH and batch systems block; the scaler calls it in a thread. A fleet
    never clamps to a group's bounds, drains, sleeps or connects to Dask.
    """

    #: Whether the caller says who leaves. If not, the platform picks, and `observe` lists the
    #: members in the order in which it would pick them.
    chooses: ClassVar[bool]
    #: What a deployment hands the scaler of it: the arguments of the class.
    handle: ClassVar[type[Handle]]

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
    handle: ClassVar[type[Handle]] = FixedHandle

    def __init__(self, members: Sequence[str]) -> None:
        self.members = tuple(Member(name, name, "running") for name in members)

    def observe(self) -> Observation:
        """Return all of them; see `perennial.fleet.Fleet`."""
        size = len(self.members)
        return Observation(desired=size, members=self.members, settled=True, least=size, most=size)

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Give the size, which nobody changes; see `perennial.fleet.Fleet`."""
        return len(self.members)


def chosen(members: Sequence[Member], to: int, named: Collection[str]) -> list[str]:
    """Choose who goes: those that are named, and the newest of what has not started. Pure."""
    there = [one for one in members if one.state != "leaving"]
    going = [one.id for one in there if one.id in named]
    staying = [one for one in there if one.id not in named]
    unstarted = [one.id for one in staying if one.state == "starting"]
    return going + unstarted[::-1][: max(0, len(staying) - to)]


@contextmanager
def refusals(prefix: str = "") -> Iterator[None]:
    """Raise what a resize may raise: whatever else fails can be asked again, so it is `Busy`."""
    try:
        yield
    except (NoCapacity, Busy, FleetMissing):
        raise
    except PerennialError as error:
        raise Busy(f"{prefix}{error}") from error


def read(platform: str, handle: Mapping[str, object]) -> Handle:
    """Read the handle of a fleet, as `Handle.to_json` has written it.

    Parameters
    ----------
    platform : str
        A platform of the registry, or a simulated one.
    handle : mapping
        Values of JSON. One that lists the members themselves is a `FixedHandle`, on any platform.

    Raises
    ------
    pydantic.ValidationError
        Where it is no handle of this platform.
    """
    fixed = handle.keys() == FixedHandle.model_fields.keys()
    kind: type[Handle] = FixedHandle if fixed else registry.fleet(platform).handle
    return kind.model_validate(handle)


def written(handles: Mapping[str, Handle]) -> dict[str, dict[str, object]]:
    """Write the handles of a cluster's groups, for the outputs of a stack."""
    return {group: handle.to_json() for group, handle in handles.items()}


def opened(platform: str, handle: Handle) -> Fleet:
    """Make a fleet from the handle that its deployment has written.

    Parameters
    ----------
    platform : str
        A platform of the registry, or a simulated one.
    handle : Handle
        That of its fleets, or a `FixedHandle`.
    """
    kind = FixedFleet if isinstance(handle, FixedHandle) else registry.fleet(platform)
    fleet: Fleet = kind(**dict(handle))
    return fleet
