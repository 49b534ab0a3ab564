"""One drain of one member: what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from perennial.preloads.drain import listed
from perennial.scaler.settings import OnDeadline
from perennial.scaler.workers import Left, Who


@dataclass
class Drain:
    """One drain of one member."""

    #: Names.
    group: str
    member: str
    #: When it was begun, by the scaler's clock.
    since: float
    #: Seconds that it may take.
    deadline: float
    #: What happens then, if tasks still run.
    on_deadline: OnDeadline = "wait"
    #: Whether a scaler before this one has begun it.
    resumed: bool = False
    addresses: frozenset[str] = frozenset()
    running: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()
    #: Since when: parked last, without an answer, without unique data, without anybody to take it,
    #: unknown to Dask.
    parked: float | None = None
    silent: float | None = None
    settled: float | None = None
    refused: float | None = None
    absent: float | None = None
    #: When the log had a line last that it is overdue.
    logged: float | None = None
    #: Whether one of its processes is about to end.
    ending: bool = False
    #: Why it must stay; empty when it need not.
    stays: str = ""
    #: What is lost by the group's rule; empty when nothing is.
    given_up: str = ""

    @property
    def who(self) -> Who:
        """Group and member."""
        return self.group, self.member

    @property
    def tasks(self) -> list[str]:
        """Tasks that still run there, or that the scheduler thinks do."""
        known = {task for left in self.left.values() for task in left.tasks}
        return sorted(known.union(*self.running.values()))

    @property
    def unique(self) -> list[str]:
        """Keys that nobody else holds."""
        return sorted({key for left in self.left.values() for key in left.unique})

    def trouble(self, now: float) -> str:
        """Say what a person should know of; empty when it goes on as it should."""
        if self.stays:
            return f"{self.member} stays: {self.stays}"
        if self.silent is not None:
            return f"{self.member} does not answer; asks it again"
        return self.overdue(now)

    def overdue(self, now: float) -> str:
        """Say that it takes longer than it may, and what for; empty where it does not."""
        late = now - self.since - self.deadline
        if late <= 0 or not (self.tasks or self.unique):
            return ""
        waits = listed("task", self.tasks) if self.tasks else listed("key", self.unique)
        return f"{self.member} is {late:.0f} s past the deadline of its drain: waits for {waits}"
