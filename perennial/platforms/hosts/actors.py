"""The actors that members hold, and what members abandoned when they stopped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from perennial.contracts import Lost
from perennial.pages import workers_of
from perennial.plan import Holder
from perennial.platforms.hosts.machine_services import MachineServices
from perennial.platforms.hosts.remote import Agent


def holders(
    page: Mapping[str, Any], machines: Iterable[str], groups: Iterable[str]
) -> list[Holder]:
    """Read from the scheduler's page which members hold actors, see `perennial.preloads.roster`."""
    places = [(machine, group) for machine in machines for group in groups]
    found: dict[tuple[str, str, str], int] = {}
    for worker in workers_of(page):
        for machine, group in places:
            whole = rf"({re.escape(group)}-{re.escape(machine)}-[0-9]+)(?:-[0-9]+)?"
            if match := re.fullmatch(whole, worker.name):
                key = (machine, group, match[1])
                found[key] = found.get(key, 0) + worker.actors
    return [Holder(*key, count) for key, count in found.items() if count]


@contextmanager
def losses(
    agent: Agent, assigned: MachineServices, units: Sequence[str], lost: Lost
) -> Iterator[None]:
    """Report which of these units abandon something while they are stopped in this context."""
    if not units:
        yield
        return
    asked = {"cluster": assigned.cluster, "units": list(units)}
    since = agent.ask("leaving", **asked)
    yield
    for unit, what in agent.ask("left", **asked, since=since).items():
        lost(member(assigned, unit), what)


def member(assigned: MachineServices, unit: str) -> str:
    """Return Dask's name of a machine's unit; its group may be in no cluster file any more."""
    match = re.fullmatch(rf"dask-{re.escape(assigned.cluster)}-(.+)@([0-9]+)\.service", unit)
    return f"{match[1]}-{assigned.target.name}-{match[2]}" if match else unit
