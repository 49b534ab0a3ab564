"""What is sent between the scheduler's preloads and who asks them, as types.

Mappings, since Dask's protocol carries nothing else, and since the other end may be another
release: whoever reads one takes nothing in it for granted.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Request(TypedDict):
    """A request of a person to the scaler; its fields depend on its kind."""

    kind: Literal["pin", "unpin", "bounds", "unbound", "pause", "resume"]
    group: NotRequired[str]
    size: NotRequired[int]
    seconds: NotRequired[float | None]
    force: NotRequired[bool]
    min: NotRequired[int | None]
    max: NotRequired[int | None]
    #: Added by the scheduler, for the scaler to acknowledge.
    id: NotRequired[str]
    time: NotRequired[float]


class Reports(TypedDict):
    """The scaler's latest report and its records, as the scheduler keeps them."""

    report: dict[str, Any] | None
    age: float | None
    #: What each record has, in this order.
    fields: list[str]
    #: By group, the oldest first.
    records: dict[str, list[list[Any]]]


class KindOfWork(TypedDict):
    """Tasks that need the same; a load is tasks, seconds, and tasks of unknown duration."""

    resources: Any
    pinned: bool
    queued: list[Any]
    unrunnable: list[Any]
    processing: dict[str, list[Any]]
    waiting: int
    oldest: float
    elapsed: float


class Names(TypedDict):
    """The members' names: all of them, or what has changed."""

    change: int
    all: NotRequired[dict[str, list[str]]]
    changes: NotRequired[list[tuple[Any, ...]]]


class Counted(TypedDict, total=False):
    """What a scheduler has counted; empty where its counters have stopped."""

    work: list[KindOfWork]
    groups: dict[str, dict[str, int]]
    detail: dict[str, list[list[Any]]]
    names: Names


class Answer(Counted):
    """What the scaler gets at each tick."""

    protocol: int
    versions: dict[str, str]
    scheduler: str
    uptime: float
    clients: int
    scatters: int
    wishes: list[Request]
    news: int
    fault: str


class Ask(TypedDict):
    """What is asked of one machine for one group."""

    #: By which the scheduler recognises it once it is done.
    id: str
    #: Numbers of the members from now on, and those that are given up unless they run by now.
    want: list[int]
    unstarted: list[int]


class Room(TypedDict):
    """What a machine has for a group; an earlier keeper does not say."""

    #: How many more members it holds, and how many it starts at a time.
    room: NotRequired[int]
    step: NotRequired[int]
    #: Cores, bytes, and bytes that its other services may use.
    holds: NotRequired[list[int]]


class KeptGroup(Room):
    """A keeper's report of a group."""

    #: Numbers of the members that it keeps running.
    wanted: list[int]
    #: ``starting``, ``running`` or ``leaving``, by number.
    states: dict[str, str]
    #: How many it may have.
    most: int
    #: The `Ask` that it has done last.
    done: str | None


class KeeperReport(TypedDict):
    """A keeper's report of its machine."""

    groups: dict[str, KeptGroup]
    #: Why it cannot do what is asked of it; empty when it can.
    trouble: str


class GroupOnMachine(Room):
    """What the scheduler knows of a group on a machine."""

    wanted: list[int]
    #: Whether something is asked and not done yet.
    pending: bool
    states: dict[str, Any]
    most: int
    #: Seconds since its keeper has asked last.
    age: float
    trouble: str
    #: Numbers of the members that still work although the keeper is silent.
    registered: NotRequired[list[int]]


class FleetOnMachines(TypedDict):
    """A group on all machines."""

    #: Seconds for which the scheduler has run.
    uptime: float
    machines: dict[str, GroupOnMachine]


class Resize(TypedDict):
    """Numbers that a machine shall have of a group, and those which are given up there."""

    want: list[int]
    unstarted: NotRequired[list[int]]
