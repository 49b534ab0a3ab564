"""What the scaler knows and decides. Values of the standard library alone; no clock, no I/O.

Times are seconds; `now` and all that is compared with it are of a monotonic clock. Memory is
bytes. Where a name stands for a worker it is that of the *member*, Dask's ``--name`` without
the number of a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perennial.observation import Observation

#: Dask's word for a worker that is parked: it begins no more tasks.
PARKED = "closing_gracefully"


# What the scheduler says


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """What a task needs of a worker; tasks with the same needs are one kind of demand."""

    #: Abstract resources, sorted by name.
    resources: tuple[tuple[str, float], ...] = ()
    #: Whether a worker or a host is named: a new worker will not help.
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """A number of tasks and how long they take."""

    #: How many.
    tasks: int = 0
    #: Work of those whose duration is known.
    seconds: float = 0.0
    #: How many of them have a duration that nobody knows yet.
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Demand of one signature."""

    #: What the tasks need.
    signature: Signature = Signature()
    #: Ready tasks that the scheduler holds back (Dask's ``queued``), and that no worker can run
    #: (``no-worker``).
    queued: Load = Load()
    unrunnable: Load = Load()
    #: Tasks given to workers, by group, but for those that have seceded; those with resources pile
    #: up on the first worker that has them, more than it can run.
    processing: Mapping[str, Load] = field(default_factory=dict)
    #: Tasks whose inputs are not there yet.
    waiting: int = 0
    #: How long the oldest unrunnable one has waited.
    oldest: float = 0.0
    #: The longest time that a task of unknown duration has run so far.
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """A member as the scheduler sees it; of several processes, all together."""

    #: Name of the member.
    worker: str
    #: Dask's word for the worst-off of its processes: ``running``, ``paused``,
    #: ``closing_gracefully`` (parked), ``init``.
    status: str = "running"
    #: How many of its processes have registered.
    processes: int = 1
    #: Tasks given to it, long-running ones included.
    processing: int = 0
    #: Actors that live there.
    actors: int = 0
    #: How long it has had nothing to do; 0 while it has.
    idle: float = 0.0
    #: Data that it holds.
    nbytes: int = 0
    #: Keys that only it holds.
    unique: int = 0
    #: Memory that its processes use.
    memory: int = 0
    #: Whether it is needed where it is: tasks wait that may run there alone, or a shuffle goes on
    #: that Dask would begin anew without it.
    needed: bool = False


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """A group as the scheduler sees it."""

    #: Members of which at least one process has registered and is not parked.
    members: int = 0
    #: Those of them with something to do.
    busy: int = 0
    #: Memory that their processes use, with the data of parked ones that is to come; and memory
    #: that they may use.
    memory: int = 0
    limit: int = 0
    #: Data that they and the parked ones hold.
    nbytes: int = 0
    #: How much of it is on disk.
    spilled: int = 0
    #: Members that have registered, parked ones included.
    names: tuple[str, ...] = ()
    #: Each member, by name; None where it was not asked for or cannot be known.
    detail: Mapping[str, MemberSeen] | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the scheduler's work asks of each group, in one read."""

    #: Identity of the scheduler's process: another one when it was restarted.
    scheduler: str
    #: How long it has run.
    uptime: float = 0.0
    #: One for each signature.
    work: tuple[Work, ...] = ()
    #: By name; a group without workers may be missing.
    groups: Mapping[str, GroupSeen] = field(default_factory=dict)
    #: Connected clients, but for the scaler.
    clients: int = 0
    #: What is not known and why, for a scheduler without our preload; empty when all is.
    partial: str = ""
    #: Calls of clients that have data to scatter and wait for the first worker.
    scatters: int = 0


# What people want


@dataclass(frozen=True, slots=True)
class Group:
    """The rules of one group; what a person wrote, with the calendar and pins worked in."""

    name: str
    #: Bounds now.
    min: int = 0
    max: int = 1
    #: Tasks that a member runs at the same time: threads of all its processes.
    slots: int = 1
    #: Worker processes of a member.
    processes: int = 1
    #: Abstract resources of one process.
    resources: Mapping[str, float] = field(default_factory=dict)
    #: Memory of a member's processes together.
    memory: int = 4 * 2**30
    #: Groups of a higher one are filled first.
    priority: int = 0
    #: Price of a member for an hour, in any unit.
    cost: float = 1.0
    #: Seconds from asking for a member until its worker has registered; a first guess, until it has
    #: been measured.
    start_up: float = 10.0
    #: How long a member has nothing to do before it may leave; None to choose it from `start_up`.
    idle: float | None = None
    #: Time limit of a drain.
    drain: float = 60.0
    #: Seconds in which waiting work shall be done; None to choose it from `start_up`.
    horizon: float | None = None
    #: Largest part of `max` that may be on its way at a time.
    step_up: float = 1.0
    #: Largest part of the group by which it shrinks at a time.
    step_down: float = 0.25
    #: Size that a person has set; bounds and demand do not matter then.
    pin: int | None = None
    #: Whether the pin is meant beyond what the platform holds.
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of all groups."""

    #: In the order of the cluster file.
    groups: tuple[Group, ...]
    #: Most that all members together may cost for an hour; None for no limit.
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands: the platform's view, and what the scaler itself has begun."""

    #: None when the platform did not answer.
    observation: Observation | None
    #: Members that are being drained, by worker name; True where the drain can be undone at once,
    #: which is cheaper than a new member.
    draining: Mapping[str, bool] = field(default_factory=dict)
    #: Until when nothing may be asked of the fleet (back-off); 0 when it may.
    blocked: float = 0.0
    #: Why.
    trouble: str = ""
    #: Whether the caller says who leaves; if not, the platform takes the first of
    #: `Observation.members`.
    chooses: bool = True
    #: How many of `draining` are past the deadline of their drain.
    late: int = 0


# What is decided


@dataclass(frozen=True, slots=True)
class Decision:
    """A size for one group, and its reasons."""

    #: Name.
    group: str
    #: Members that exist, are asked for, and have not been told to leave.
    current: int
    #: Size that the group shall have.
    to: int
    #: Members that shall be drained, by worker name, in this order.
    leave: tuple[str, ...] = ()
    #: Members whose drain shall be undone.
    back: tuple[str, ...] = ()
    #: The rule that was binding: one of `perennial.scaler.policy.RULES`.
    rule: str = "steady"
    #: The same in a sentence, with its numbers.
    reason: str = ""
    #: What was weighed: the size that each rule would have chosen, slots, work, …
    numbers: Mapping[str, float] = field(default_factory=dict)
    #: Seconds until this may become another decision by time alone.
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
    """What the policy remembers of a group."""

    #: When each member that has not registered yet was first seen or asked for, by worker name.
    asked: Mapping[str, float] = field(default_factory=dict)
    #: The latest start-up times that were measured, the newest last.
    start_ups: tuple[float, ...] = ()
    #: What was wanted lately, by time: shrinking follows the largest of it.
    wanted: tuple[tuple[float, int], ...] = ()
    #: When the group was last made larger and smaller.
    grown: float | None = None
    shrunk: float | None = None
    #: The latest pauses after which members were needed again: how long, and how many members.
    gaps: tuple[tuple[float, int], ...] = ()
    #: Members whose drain is being undone, or that have been registered before: how long these take
    #: says nothing of a new one.
    back: tuple[str, ...] = ()
    #: Members that were registered at the latest decision.
    names: tuple[str, ...] = ()
    #: Members that were taken for lost then.
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Work of one kind that has come lately."""

    #: Tasks that were ready at the latest decision.
    ready: float = 0.0
    #: Begin and end of a stretch of time, and the seconds of work that came in it; the newest last.
    came: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What the policy remembers between two decisions; all of it can be lost without harm."""

    #: By name.
    groups: Mapping[str, GroupHistory] = field(default_factory=dict)
    #: The scheduler that was seen last.
    scheduler: str = ""
    #: Whether all members that the platform has were once seen at this scheduler: before that,
    #: nothing is made smaller.
    settled: bool = False
    #: When the latest decision was made.
    time: float | None = None
    #: Clients that were connected then.
    clients: int = 0
    #: Whether a member was to be started for one of them, and is not there yet.
    waking: bool = False
    #: Work that has come lately, by what its tasks need.
    flows: Mapping[str, Flow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided at one time."""

    #: One for each group of the rules.
    groups: Mapping[str, Decision]
    #: Work that nobody can run.
    infeasible: tuple[Infeasible, ...] = ()
    #: To be given to the next decision.
    history: History = History()
