"""The `Demand` that our preload would read from the scheduler's state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from benchmarks.scaler.model import EMPTY, Model
from benchmarks.scaler.pools import Tally
from benchmarks.scaler.tasks import SPILL, Prefix, Worker
from perennial.scaler.values import Demand, GroupSeen, Load, MemberSeen, Signature, Work


class Reader:
    """Reads one model again and again; what has not changed is not made anew."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._names: dict[str, tuple[int, tuple[str, ...]]] = {}

    def read(self, detail: Collection[str]) -> Demand:
        """Read the demand, with each member of some groups."""
        model = self.model
        model.heartbeat()
        return Demand(
            scheduler="simulated",
            uptime=model.clock.now,
            work=tuple(self._work()),
            groups={
                name: self._group(name, tally, name in detail)
                for name, tally in model.tallies.items()
            },
            clients=1,
        )

    def _work(self) -> Iterable[Work]:
        model, now = self.model, self.model.clock.now
        queued: defaultdict[Signature, dict[Prefix, int]] = defaultdict(dict)
        given: defaultdict[Signature, defaultdict[str, dict[Prefix, int]]]
        given = defaultdict(lambda: defaultdict(dict))
        unrunnable: dict[Signature, dict[Prefix, int]] = {}
        for (needs, prefix), n in model.queued.items():
            if n:
                queued[needs][prefix] = n
        for (needs, group, prefix), n in model.processing.items():
            if n:
                given[needs][group][prefix] = n
        for needs, tasks in model.unrunnable.items():
            if tasks:
                counts = unrunnable[needs] = {}
                for task in tasks:
                    counts[task.prefix] = counts.get(task.prefix, 0) + 1
        waiting = {needs for needs, n in model.waiting.items() if n}
        for needs in sorted({*queued, *given, *unrunnable, *waiting}):
            lost = model.unrunnable[needs]
            yield Work(
                needs,
                queued=load(queued[needs]),
                unrunnable=load(unrunnable.get(needs, {})),
                processing={group: load(counts) for group, counts in given[needs].items()},
                waiting=model.waiting[needs],
                oldest=now - next(iter(lost.values())) if lost else 0.0,
                elapsed=max((p.max_exec_time for p in _unknown(given[needs])), default=0.0),
            )

    def _group(self, name: str, tally: Tally, detail: bool) -> GroupSeen:
        known = self._names.get(name)
        if known is None or known[0] != tally.version:
            known = self._names[name] = (tally.version, tuple(tally.workers))
        now, parked = self.model.clock.now, tally.parked
        # What a parked one holds is going to be with others, its memory leaves with it: as in
        # `perennial.preloads.answering.group_totals`.
        memory = EMPTY * len(tally.workers) + tally.nbytes - tally.spilled
        return GroupSeen(
            members=len(tally.workers) - len(parked),
            busy=tally.busy - sum(bool(worker.processing) for worker in parked),
            memory=memory - sum(used(worker) - worker.nbytes for worker in parked),
            limit=tally.limit - sum(worker.memory_limit for worker in parked),
            nbytes=tally.nbytes,
            spilled=tally.spilled,
            names=known[1],
            detail=members(tally, now) if detail else None,
        )


def members(tally: Tally, now: float) -> dict[str, MemberSeen]:
    """See each worker of a group; only those that idle or have changed are seen anew."""
    seen = tally.seen
    for worker in (*tally.changed, *tally.idle):
        seen[worker.name] = member(worker, now)
    tally.changed.clear()
    for name in seen.keys() - tally.workers.keys():
        del seen[name]
    return seen.copy()


def member(worker: Worker, now: float) -> MemberSeen:
    """See one worker."""
    n = len(worker.processing)
    return MemberSeen(
        worker.name,
        status=worker.status,
        processing=n,
        idle=0.0 if n else now - worker.idle,
        nbytes=worker.nbytes,
        unique=len(worker.held),
        memory=used(worker),
    )


def used(worker: Worker) -> int:
    """Say how much memory a worker uses; the rest of its data is on disk."""
    return EMPTY + min(worker.nbytes, int(SPILL * worker.memory_limit))


def load(counts: dict[Prefix, int]) -> Load:
    """Sum tasks by their prefixes."""
    known = [(p.duration_average, n) for p, n in counts.items() if p.duration_average >= 0]
    tasks = sum(counts.values())
    return Load(tasks, sum(a * n for a, n in known), tasks - sum(n for _, n in known))


def _unknown(given: dict[str, dict[Prefix, int]]) -> set[Prefix]:
    return {p for counts in given.values() for p in counts if p.duration_average < 0}
