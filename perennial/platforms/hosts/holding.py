"""What members hold that nobody can take, actors; and what they have lost when they left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perennial import plan
from perennial.plan import Step
from perennial.platforms.hosts.remote import Agent
from perennial.platforms.hosts.share import Share

#: Is given a member's name and what it abandoned.
Lost = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Holder:
    """A member that holds actors."""

    #: Where it runs, and how it is called.
    machine: str
    group: str
    name: str
    #: How many.
    actors: int

    def is_meant(self, word: str) -> bool:
        """Whether a person who names a member, a group or a machine means it."""
        return word in (self.name, self.group, self.machine)


def holders(
    page: Mapping[str, Any], machines: Iterable[str], groups: Iterable[str]
) -> list[Holder]:
    """Read from the scheduler's page which members hold actors, see `perennial.preloads.roster`."""
    places = [(machine, group) for machine in machines for group in groups]
    found: dict[tuple[str, str, str], int] = {}
    for worker in page.get("workers", {}).values():
        for machine, group in places:
            whole = rf"({re.escape(group)}-{re.escape(machine)}-[0-9]+)(?:-[0-9]+)?"
            if match := re.fullmatch(whole, str(worker["name"])):
                key = (machine, group, match[1])
                found[key] = found.get(key, 0) + int(worker.get("actors", 0))
    return [Holder(*key, count) for key, count in found.items() if count]


def with_actors(steps: Iterable[Step], found: Sequence[Holder]) -> list[Step]:
    """Say of the steps of a plan which actors they end."""

    def held(step: Step) -> int:
        ends = [each for each in found if each.machine == step.target]
        return sum(each.actors for each in ends if each.is_meant(step.resource))

    return plan.with_actors(steps, held)


@contextmanager
def losses(agent: Agent, share: Share, units: Sequence[str], lost: Lost) -> Iterator[None]:
    """Report which of these units abandon something while they are stopped in this context."""
    if not units:
        yield
        return
    asked = {"cluster": share.cluster, "units": list(units)}
    since = agent.ask("leaving", **asked)
    yield
    for unit, what in agent.ask("left", **asked, since=since).items():
        lost(member(share, unit), what)


def member(share: Share, unit: str) -> str:
    """Return Dask's name of a machine's unit; its group may be in no cluster file any more."""
    match = re.fullmatch(rf"dask-{re.escape(share.cluster)}-(.+)@([0-9]+)\.service", unit)
    return f"{match[1]}-{share.target.name}-{match[2]}" if match else unit
