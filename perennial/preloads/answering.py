"""Put what is counted into an answer of plain lists and dictionaries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from perennial.preloads.counting import Counts, Kind, Sum
from perennial.preloads.members import Group, SeenMember
from perennial.preloads.messages import KindOfWork

#: Kinds of tasks that one answer lists.
KINDS = 100
#: Keys that one answer looks at to find out which of them have no other copy.
KEYS = 20_000

#: What `details` says of a member, in this order.
MEMBER = (
    *("worker", "status", "processes", "processing", "actors"),
    *("idle", "nbytes", "unique", "memory", "kept"),
)


def work(counts: Counts, now: float) -> list[KindOfWork]:
    """List the sums: one entry for each kind of task, those with most tasks first."""
    sizes = {kind: sum(each.tasks for each in kind.sums) for kind in counts.kinds.values()}
    kinds = sorted((kind for kind in sizes if sizes[kind]), key=sizes.__getitem__, reverse=True)
    return [_entry(kind, now) for kind in kinds[:KINDS]]


def _entry(kind: Kind, now: float) -> KindOfWork:
    """Describe a kind."""
    waiting = kind.held.get("waiting")
    oldest = next(iter(kind.waits.values()), now)
    return {
        "resources": kind.resources,
        "pinned": kind.pinned,
        "queued": _load(kind.held.get("queued")),
        "unrunnable": _load(kind.held.get("no-worker")),
        "processing": {group: _load(each) for group, each in kind.given.items() if each.tasks},
        "waiting": 0 if waiting is None else waiting.tasks,
        "oldest": max(0.0, now - oldest),
        "elapsed": max((each.elapsed for each in kind.given.values()), default=0.0),
    }


def _load(each: Sum | None) -> list[float]:
    """Tasks, seconds of those whose duration is known, and how many the others are."""
    return [0, 0.0, 0] if each is None else [each.tasks, max(0.0, each.seconds), each.unknown]


def group_totals(group: Group) -> dict[str, int]:
    """Describe a group as a whole: what those can hold who stay, and what they will hold.

    The memory of a parked member leaves with it; its data is going to be in that of others.
    """
    parked = [process for member in group.parked for process in member.processes.values()]
    return {
        "members": len(group.members) - len(group.parked),
        "busy": group.busy - sum(member.busy > 0 for member in group.parked),
        "memory": group.memory - sum(each.memory - each.nbytes for each in parked),
        "limit": group.limit - sum(each.worker.memory_limit for each in parked),
        "nbytes": group.nbytes,
        "spilled": group.spilled,
    }


def details(
    groups: Collection[Group], now: float, kept: Collection[str] = ()
) -> dict[str, list[list[Any]]]:
    """Describe each member of some groups.

    Where it would take too long to find out which keys have no other copy, all that a member
    holds are said to have none: too many is safe. Members that have been idle longest, which
    are likely to leave, come first.
    """
    found: dict[str, list[list[Any]]] = {group.name: [] for group in groups}
    members = [member for group in groups for member in group.members.values()]
    budget = KEYS
    for member in sorted(members, key=_rank):
        row, keys = _member(member, now, budget)
        row.append(any(at in kept for at in member.processes))
        found[member.group.name].append(row)
        budget -= keys
    return found


def _rank(member: SeenMember) -> tuple[bool, float]:
    return member.busy > 0, member.since


def _member(member: SeenMember, now: float, budget: int) -> tuple[list[Any], int]:
    """Describe a member; say also how many keys it holds."""
    tasks = actors = nbytes = keys = memory = 0
    for process in member.processes.values():
        process.sample()
        worker = process.worker
        tasks += len(worker.processing)
        actors += len(worker.actors)
        nbytes += worker.nbytes
        keys += len(worker.has_what)
        memory += process.memory
    alone = unique(member) if 0 < keys <= budget else keys
    idle = 0.0 if member.busy else now - member.since
    counts = (len(member.processes), tasks, actors)
    return [member.name, member.status, *counts, idle, nbytes, alone, memory], keys


def unique(member: SeenMember) -> int:
    """Count the keys that only this member holds."""
    workers = [process.worker for process in member.processes.values()]
    if len(workers) == 1:
        return sum(len(task.who_has) == 1 for task in workers[0].has_what)
    keys = {task for worker in workers for task in worker.has_what}
    return sum(task.who_has.issubset(workers) for task in keys)
