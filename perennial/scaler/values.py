"""What the scaler knows and decides. Values of the standard library alone; no clock, no I/O.

Times are seconds; `now` and all that is compared with it are of a monotonic clock. Memory is
bytes. Where a name stands for a worker it is that of the *member*, Dask's ``--name`` without
the number of a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MemberState = Literal["starting", "running", "leaving"]

#: Dask's word for a worker that is parked: it begins no more tasks.
PARKED = "closing_gracefully"


# What a platform says


@dataclass(frozen=True, slots=True)
class Member:
    """One removable piece of a group, as its platform knows it.

    Parameters
    ----------
    id : str
        The platform's own name.
    worker : str
        Dask's ``--name``: the only join between the platform's view and the scheduler's.
    state : {"starting", "running", "leaving"}
        ``leaving`` once the platform has been told that it goes.
    """

    id: str
    worker: str
    state: MemberState


@dataclass(frozen=True, slots=True)
class Observation:
    """A fleet in one consistent read.

    Parameters
    ----------
    desired : int
        Size that the platform holds; what was last asked of it.
    members : tuple of Member
        What exists.
    settled : bool
        Whether the platform works on nothing: what exists is what is desired.
    least, most : int, int or None
        Sizes that the platform holds, for what a member may use; None where it has no limit.
        `Fleet.resize` may take more, up to what the platform can do at all.
    room : str
        What `most` follows from, in words.
    step : int or None
        Members that may be on their way at a time while the platform is as busy as it is; None
        where it has no limit.
    utmost : int or None
        Size beyond which `Fleet.resize` takes none, even when it is meant; None where the
        platform finds out.
    """

    desired: int
    members: tuple[Member, ...] = ()
    settled: bool = True
    least: int = 0
    most: int | None = None
    # How busy a platform is says nothing of whether it has come nearer to what was asked for.
    room: str = field(default="", compare=False)
    step: int | None = field(default=None, compare=False)
    utmost: int | None = None


# What the scheduler says


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """What a task needs of a worker; tasks with the same needs are one kind of demand.

    Parameters
    ----------
    resources : tuple of (str, float)
        Abstract resources, sorted by name.
    pinned : bool
        Whether a worker or a host is named: a new worker will not help.
    """

    resources: tuple[tuple[str, float], ...] = ()
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """A number of tasks and how long they take.

    Parameters
    ----------
    tasks : int
        How many.
    seconds : float
        Work of those whose duration is known.
    unknown : int
        How many of them have a duration that nobody knows yet.
    """

    tasks: int = 0
    seconds: float = 0.0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Demand of one signature.

    Parameters
    ----------
    signature : Signature
        What the tasks need.
    queued, unrunnable : Load
        Ready tasks that the scheduler holds back (Dask's ``queued``), and that no worker can
        run (``no-worker``).
    processing : mapping of str to Load
        Tasks given to workers, by group, but for those that have seceded; those with resources
        pile up on the first worker that has them, more than it can run.
    waiting : int
        Tasks whose inputs are not there yet.
    oldest : float
        How long the oldest unrunnable one has waited.
    elapsed : float
        The longest time that a task of unknown duration has run so far.
    """

    signature: Signature = Signature()
    queued: Load = Load()
    unrunnable: Load = Load()
    processing: Mapping[str, Load] = field(default_factory=dict)
    waiting: int = 0
    oldest: float = 0.0
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """A member as the scheduler sees it; of several processes, all together.

    Parameters
    ----------
    worker : str
        Name of the member.
    status : str
        Dask's word for the worst-off of its processes: ``running``, ``paused``,
        ``closing_gracefully`` (parked), ``init``.
    processes : int
        How many of its processes have registered.
    processing : int
        Tasks given to it, long-running ones included.
    actors : int
        Actors that live there.
    idle : float
        How long it has had nothing to do; 0 while it has.
    nbytes : int
        Data that it holds.
    unique : int
        Keys that only it holds.
    memory : int
        Memory that its processes use.
    kept : bool
        Whether it is needed where it is: tasks wait that may run there alone, or a shuffle goes
        on that Dask would begin anew without it.
    """

    worker: str
    status: str = "running"
    processes: int = 1
    processing: int = 0
    actors: int = 0
    idle: float = 0.0
    nbytes: int = 0
    unique: int = 0
    memory: int = 0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """A group as the scheduler sees it.

    Parameters
    ----------
    members : int
        Members of which at least one process has registered and is not parked.
    busy : int
        Those of them with something to do.
    memory, limit : int
        Memory that their processes use, with the data of parked ones that is to come; and memory
        that they may use.
    nbytes : int
        Data that they and the parked ones hold.
    spilled : int
        How much of it is on disk.
    names : tuple of str
        Members that have registered, parked ones included.
    detail : mapping of str to MemberSeen, or None
        Each member, by name; None where it was not asked for or cannot be known.
    """

    members: int = 0
    busy: int = 0
    memory: int = 0
    limit: int = 0
    nbytes: int = 0
    spilled: int = 0
    names: tuple[str, ...] = ()
    detail: Mapping[str, MemberSeen] | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the scheduler's work asks of each group, in one read.

    Parameters
    ----------
    scheduler : str
        Identity of the scheduler's process: another one when it was restarted.
    uptime : float
        How long it has run.
    work : tuple of Work
        One for each signature.
    groups : mapping of str to GroupSeen
        By name; a group without workers may be missing.
    clients : int
        Connected clients, but for the scaler.
    partial : str
        What is not known and why, for a scheduler without our preload; empty when all is.
    scatters : int
        Calls of clients that have data to scatter and wait for the first worker.
    """

    scheduler: str
    uptime: float = 0.0
    work: tuple[Work, ...] = ()
    groups: Mapping[str, GroupSeen] = field(default_factory=dict)
    clients: int = 0
    partial: str = ""
    scatters: int = 0


# What people want


@dataclass(frozen=True, slots=True)
class Group:
    """The rules of one group; what a person wrote, with the calendar and pins worked in.

    Parameters
    ----------
    name : str
        Name.
    min, max : int
        Bounds now.
    slots : int
        Tasks that a member runs at the same time: threads of all its processes.
    processes : int
        Worker processes of a member.
    resources : mapping of str to float
        Abstract resources of one process.
    memory : int
        Memory of a member's processes together.
    priority : int
        Groups of a higher one are filled first.
    cost : float
        Price of a member for an hour, in any unit.
    start_up : float
        Seconds from asking for a member until its worker has registered; a first guess, until
        it has been measured.
    idle : float or None
        How long a member has nothing to do before it may leave; None to choose it from
        `start_up`.
    drain : float
        How long a drain may take.
    horizon : float or None
        Seconds in which waiting work shall be done; None to choose it from `start_up`.
    step_up : float
        Largest part of `max` that may be on its way at a time.
    step_down : float
        Largest part of the group by which it shrinks at a time.
    pin : int or None
        Size that a person has set; bounds and demand do not matter then.
    forced : bool
        Whether the pin is meant beyond what the platform holds.
    """

    name: str
    min: int = 0
    max: int = 1
    slots: int = 1
    processes: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    memory: int = 4 * 2**30
    priority: int = 0
    cost: float = 1.0
    start_up: float = 10.0
    idle: float | None = None
    drain: float = 60.0
    horizon: float | None = None
    step_up: float = 1.0
    step_down: float = 0.25
    pin: int | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of all groups.

    Parameters
    ----------
    groups : tuple of Group
        In the order of the cluster file.
    budget : float or None
        Most that all members together may cost for an hour; None for no limit.
    """

    groups: tuple[Group, ...]
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands: the platform's view, and what the scaler itself has begun.

    Parameters
    ----------
    observation : Observation or None
        None when the platform did not answer.
    draining : mapping of str to bool
        Members that are being drained, by worker name; True where the drain can be undone at
        once, which is cheaper than a new member.
    blocked : float
        Until when nothing may be asked of the fleet (back-off); 0 when it may.
    trouble : str
        Why.
    chooses : bool
        Whether the caller says who leaves; if not, the platform takes the first of
        `Observation.members`.
    late : int
        How many of `draining` are past the deadline of their drain.
    """

    observation: Observation | None
    draining: Mapping[str, bool] = field(default_factory=dict)
    blocked: float = 0.0
    trouble: str = ""
    chooses: bool = True
    late: int = 0


# What is decided


@dataclass(frozen=True, slots=True)
class Decision:
    """A size for one group, and its reasons.

    Parameters
    ----------
    group : str
        Name.
    current : int
        Members that exist, are asked for, and have not been told to leave.
    to : int
        Size that the group shall have.
    leave : tuple of str
        Members that shall be drained, by worker name, in this order.
    back : tuple of str
        Members whose drain shall be undone.
    rule : str
        The rule that was binding: one of `perennial.scaler.policy.RULES`.
    reason : str
        The same in a sentence, with its numbers.
    numbers : mapping of str to float
        What was weighed: the size that each rule would have chosen, slots, work, …
    again : float or None
        Seconds until this may become another decision by time alone.
    """

    group: str
    current: int
    to: int
    leave: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    rule: str = "steady"
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Work that no group can run: ``60 tasks need FPGA: 1; no group has it``."""

    signature: Signature
    tasks: int
    oldest: float
    text: str


@dataclass(frozen=True, slots=True)
class GroupHistory:
    """What the policy remembers of a group.

    Parameters
    ----------
    asked : mapping of str to float
        When each member that has not registered yet was first seen or asked for, by worker name.
    start_ups : tuple of float
        The latest start-up times that were measured, the newest last.
    wanted : tuple of (float, int)
        What was wanted lately, by time: shrinking follows the largest of it.
    grown, shrunk : float or None
        When the group was last made larger and smaller.
    gaps : tuple of (float, int)
        The latest pauses after which members were needed again: how long, and how many members.
    back : tuple of str
        Members whose drain is being undone, or that have been registered before: how long these
        take says nothing of a new one.
    names : tuple of str
        Members that were registered at the latest decision.
    late : tuple of str
        Members that were taken for lost then.
    """

    asked: Mapping[str, float] = field(default_factory=dict)
    start_ups: tuple[float, ...] = ()
    wanted: tuple[tuple[float, int], ...] = ()
    grown: float | None = None
    shrunk: float | None = None
    gaps: tuple[tuple[float, int], ...] = ()
    back: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Work of one kind that has come lately.

    Parameters
    ----------
    ready : float
        Tasks that were ready at the latest decision.
    came : tuple of (float, float, float)
        Begin and end of a stretch of time, and the seconds of work that came in it; the newest
        last.
    """

    ready: float = 0.0
    came: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What the policy remembers between two decisions; all of it can be lost without harm.

    Parameters
    ----------
    groups : mapping of str to GroupHistory
        By name.
    scheduler : str
        The scheduler that was seen last.
    settled : bool
        Whether all members that the platform has were once seen at this scheduler: before that,
        nothing is made smaller.
    time : float or None
        When the latest decision was made.
    clients : int
        Clients that were connected then.
    waking : bool
        Whether a member was to be started for one of them, and is not there yet.
    flows : mapping of str to Flow
        Work that has come lately, by what its tasks need.
    """

    groups: Mapping[str, GroupHistory] = field(default_factory=dict)
    scheduler: str = ""
    settled: bool = False
    time: float | None = None
    clients: int = 0
    waking: bool = False
    flows: Mapping[str, Flow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided at one time.

    Parameters
    ----------
    groups : mapping of str to Decision
        One for each group of the rules.
    infeasible : tuple of Infeasible
        Work that nobody can run.
    history : History
        To be given to the next decision.
    """

    groups: Mapping[str, Decision]
    infeasible: tuple[Infeasible, ...] = ()
    history: History = History()
