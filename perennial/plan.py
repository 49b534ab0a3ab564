"""What a change would do, and what it has cost: values that every platform shares. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from perennial.spec.words import plural

Action = Literal["create", "update", "replace", "restart", "delete"]

#: What stands before a step of a plan.
SIGNS: dict[Action, str] = {
    "create": "+",
    "update": "~",
    "replace": "~",
    "restart": "!",
    "delete": "-",
}


#: What stands between a member and what it abandoned, in a line about it.
ABANDONED = " abandoned "


class Impact(StrEnum):
    """What a step costs the users; its value is what a plan prints."""

    NONE = ""
    DRAINED = "drained first"
    KERNELS = "its kernels end"
    LOSES_WORK = "ALL RUNNING WORK AND RESULTS ARE LOST"


@dataclass(frozen=True, slots=True)
class Step:
    """One change to one resource, with its reason and its impact."""

    #: What is done.
    action: Action
    #: The machine; empty where there is one alone, or none.
    target: str
    #: A service, a member, ``environment``, ``certificates``, or the machine itself.
    resource: str
    #: Why.
    reason: str = ""
    #: What it costs the users.
    impact: Impact = Impact.NONE


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do."""

    steps: Sequence[Step]
    #: How many services stay as they are; None where nobody counts them.
    unchanged: int | None = None
    #: What else a person wants to know before it is done, such as what it costs; one line.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """A member that holds actors."""

    #: Where it runs, and how it is called; no machine where there is one alone.
    machine: str
    group: str
    name: str
    #: How many.
    actors: int

    def is_meant(self, word: str) -> bool:
        """Whether a person who names a member, a group or a machine means it."""
        return word in (self.name, self.group, self.machine)


def drains(steps: Iterable[Step]) -> bool:
    """Whether any step drains members."""
    return any(step.impact is Impact.DRAINED for step in steps)


def with_actors(steps: Iterable[Step], holders: Sequence[Holder]) -> list[Step]:
    """Say which actors a drain ends: nobody can take them."""

    def held(step: Step) -> int:
        here = [each for each in holders if each.machine == step.target]
        return sum(each.actors for each in here if each.is_meant(step.resource))

    return [
        replace(step, reason=f"{step.reason}; {plural(count, 'actor')} cannot move and will end")
        if step.impact is Impact.DRAINED and (count := held(step))
        else step
        for step in steps
    ]


def lines(steps: Sequence[Step]) -> list[str]:
    """Format a plan, one line for each step, in columns."""
    target = max((len(step.target) for step in steps), default=0)
    resource = max([12, *(len(step.resource) for step in steps)])
    return [
        " ".join(
            (
                f"  {SIGNS[step.action]}",
                *([f"{step.target:{target}}"] if target else []),
                f"{step.action:7} {step.resource:{resource}}",
                "; ".join(filter(None, (step.reason, step.impact))),
            )
        ).rstrip()
        for step in steps
    ]
