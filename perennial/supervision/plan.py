"""What a change would do, before it does it. Pure.

Three things are compared: what the cluster file asks for, the unit text on disk, and what
supervisord runs. Each step is idempotent, so a plan that was cut off is made anew and
finished by running `perennial up` again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from perennial import plan as shared
from perennial.plan import Impact

Action = Literal["start", "adopt", "replace", "restart", "stop", "repair"]


@dataclass(frozen=True, slots=True)
class Running:
    """A program as supervisord has it."""

    #: Whether supervisord keeps it running.
    alive: bool
    #: Whether the text on disk is another than the one that it was started from.
    stale: bool = False
    #: supervisord's word for its state.
    state: str = "RUNNING"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do, with its reason."""

    #: ``start`` something new, ``adopt`` what outlived its supervisord, ``replace`` what changed,
    #: ``restart`` what does not run, ``stop`` what is no longer asked for, ``repair`` the main file
    #: of supervisord.
    action: Action
    #: The program.
    name: str
    #: For the person who reads the plan.
    reason: str

    @property
    def stops(self) -> bool:
        """Whether something that runs is stopped."""
        return self.action in ("replace", "stop")


#: What is done to a program → what that is to the person who reads the plan.
_ACTIONS: dict[Action, shared.Action] = {
    "start": "create",
    "adopt": "update",
    "replace": "restart",
    "restart": "restart",
    "stop": "delete",
    "repair": "update",
}
_IMPACTS = {
    "scheduler": Impact.LOSES_WORK,
    "jupyter": Impact.KERNELS,
    "scaler": Impact.NONE,
    "health": Impact.NONE,
}


def steps(changes: Sequence[Change]) -> list[shared.Step]:
    """Describe changes for the person who reads the plan.

    Workers are drained, but not where the scheduler stops as well: then all is lost with it.
    """
    drained = not any(change.stops and change.name == "scheduler" for change in changes)
    impact = Impact.DRAINED if drained else Impact.NONE
    return [
        shared.Step(
            _ACTIONS[change.action],
            "",
            change.name,
            change.reason,
            _IMPACTS.get(change.name, impact) if change.stops else Impact.NONE,
        )
        for change in changes
    ]


def plan(
    desired: Mapping[str, str],
    disk: Mapping[str, str],
    running: Mapping[str, Running] | None,
    orphans: Collection[str] = (),
) -> tuple[Change, ...]:
    """Compare what is asked for with what is there."""
    have = running or {}
    found = [
        Change("stop", name, "no longer in the cluster file")
        for name in sorted((set(disk) | set(have)) - set(desired))
    ]
    for name, text in desired.items():
        now = have.get(name)
        if now is not None:
            step = _of_running(name, text, disk.get(name), now)
        else:
            step = _of_missing(name, text, disk.get(name), name in orphans)
        if step is not None:
            found.append(step)
    return tuple(found)


def _of_missing(name: str, text: str, on_disk: str | None, orphan: bool) -> Change:
    if orphan and on_disk == text:
        return Change("adopt", name, "runs without supervisord; it is adopted")
    if orphan:
        return Change("replace", name, "changed")
    return Change("start", name, "new" if on_disk is None else "does not run")


def _of_running(name: str, text: str, on_disk: str | None, now: Running) -> Change | None:
    if on_disk != text or now.stale:
        return Change("replace", name, "changed")
    # In BACKOFF supervisord waits before it tries again, and longer each time.
    if not now.alive or now.state == "BACKOFF":
        return Change("restart", name, f"is {now.state}")
    return None


class Supervised(Protocol):
    """What supervisord says of a program."""

    @property
    def alive(self) -> bool:
        """Whether supervisord keeps it running or is about to."""

    @property
    def state(self) -> str:
        """Its state, in one word of supervisord's."""


Known = TypeVar("Known", bound=Supervised)


def staying(
    running: Mapping[str, Known], disk: Collection[str], desired: Collection[str]
) -> dict[str, Known]:
    """Leave out members that a fleet removes: their unit is gone, and they stop or have stopped."""
    return {
        name: now
        for name, now in running.items()
        if name in disk or (now.alive and (now.state != "STOPPING" or name in desired))
    }
