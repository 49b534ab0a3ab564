"""What a drain runs in the scheduler: move away what only one worker holds, each key once.

Dask's own policy for a worker that leaves asks for all copies that have not arrived yet whenever
its memory manager runs, and each time another worker may be chosen for them. It runs every 2 s, and
when one more worker begins to leave: of eight that leave together, most keys would travel twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from distributed.active_memory_manager import (
    ActiveMemoryManagerExtension,
    RetireWorker,
    Suggestion,
    SuggestionGenerator,
)
from distributed.core import Status

#: Seconds without a key that arrives, after which another worker is asked for what is missing.
STUCK = 5.0
#: Seconds between two runs of a memory manager of our own, as of Dask's.
INTERVAL = 2.0
#: Times as long as a run took, until which no other one is begun for a worker that leaves.
REST = 10.0
#: A worker that has one of these again does not leave any more.
STAYS = (Status.running, Status.paused)

#: The run that is to come of a memory manager, and when it may begin.
_runs: WeakKeyDictionary[ActiveMemoryManagerExtension, asyncio.Task[None]] = WeakKeyDictionary()
_rests: WeakKeyDictionary[ActiveMemoryManagerExtension, float] = WeakKeyDictionary()


class Retiring(RetireWorker):  # type: ignore[misc]
    """Dask's policy, but a copy that is on its way is asked for where it was before."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.recipients: dict[Any, Any] = {}  # by task
        self.missing: Counter[Any] = Counter()  # copies by recipient
        self.arrived: dict[Any, float] = {}  # when, at which recipient
        self.fetching: set[Any] = set()  # who may be asked

    def run(self) -> SuggestionGenerator:
        """Suggest what Dask's policy does."""
        self._look()
        suggestions = super().run()
        chosen = None
        while True:
            try:
                suggestion = suggestions.send(chosen)
            except StopIteration:
                return
            if suggestion.op != "replicate":
                chosen = yield suggestion
                continue
            task = suggestion.ts
            chosen = yield Suggestion("replicate", task, self._candidates(task))
            if chosen is not None:
                self.recipients[task] = chosen
                if not self.missing[chosen]:  # it has not been waited for until now
                    self.arrived[chosen] = monotonic()

    def _look(self) -> None:
        """Find out at which recipients copies still arrive."""
        for task in [task for task in self.recipients if task.state != "memory"]:
            del self.recipients[task]  # released meanwhile: nothing arrives
        recipients = self.recipients.items()
        missing = Counter(to for task, to in recipients if to not in (task.who_has or ()))
        for recipient, before in self.missing.items():
            if missing[recipient] < before:
                self.arrived[recipient] = monotonic()
        self.missing = missing
        late = monotonic() - STUCK
        stuck = {recipient for recipient in missing if self.arrived[recipient] < late}
        running = self.manager.scheduler.running
        self.fetching = running - stuck or running

    def _candidates(self, task: Any) -> set[Any]:
        """Give the worker that fetches a copy already; else all that may be asked."""
        recipient = self.recipients.get(task)
        return {recipient} if recipient in self.fetching else self.fetching


async def move(address: str, dask_scheduler: Any) -> bool:
    """In the scheduler: move all that a worker holds to others; say whether that worked."""
    return bool(await move_all([address], dask_scheduler))


async def move_all(addresses: Collection[str], dask_scheduler: Any) -> list[str]:
    """In the scheduler: move all that some workers hold to others; give those of whom it did."""
    workers = {at: dask_scheduler.workers[at] for at in addresses if at in dask_scheduler.workers}
    for worker in workers.values():  # all before the first one moves: none takes over from another
        _begin_to_leave(dask_scheduler, worker)
    with _memory_manager(dask_scheduler) as manager:
        known = {each.address: each for each in manager.policies if isinstance(each, Retiring)}
        # Somebody may have asked for the same before, and still wait.
        policies = {at: known.get(at) or Retiring(at) for at in workers}
        for at, policy in policies.items():
            if at not in known:
                manager.add_policy(policy)
        await _run(manager)
        waits = (_moved(manager, workers[at], each) for at, each in policies.items())
        moved = dict(zip(policies, await asyncio.gather(*waits), strict=True))
    # Nobody holds anything at an address that the scheduler does not know.
    return [at for at in addresses if moved.get(at, True)]


async def _moved(manager: ActiveMemoryManagerExtension, worker: Any, policy: Retiring) -> bool:
    """Wait until a worker's data is elsewhere; False when it cannot be, or the worker stays."""
    try:
        while manager.scheduler.workers.get(policy.address) is worker:
            if worker.status in STAYS:
                return False
            if policy.done():
                if policy in manager.policies:
                    await _run(manager)  # the copies here are dropped
                return not policy.no_recipients
            # As often as Dask looks: it costs the more, the more there is.
            await asyncio.sleep(max(0.01, min(0.5, len(worker.has_what) / 400)))
        return True
    finally:
        manager.policies.discard(policy)


async def _run(manager: ActiveMemoryManagerExtension) -> None:
    """Have a memory manager run soon: once for all that ask, and for a small part of the time.

    It looks at the keys of all that leave, so that recipients are given equal parts.
    """
    run = _runs.get(manager)
    if run is None or run.done():
        run = _runs[manager] = asyncio.create_task(_after_a_pause(manager))
    await asyncio.shield(run)


async def _after_a_pause(manager: ActiveMemoryManagerExtension) -> None:
    await asyncio.sleep(max(0.0, _rests.get(manager, 0.0) - monotonic()))
    begun = monotonic()
    del _runs[manager]  # who asks from now on is too late for this one
    manager.run_once()
    _rests[manager] = monotonic() + REST * (monotonic() - begun)


def _begin_to_leave(scheduler: Any, worker: Any) -> None:
    """Have a worker begin no more tasks, and be given no copies, as Dask does it."""
    stimulus = f"perennial-retiring-{monotonic()}"
    scheduler.handle_worker_status_change(Status.closing_gracefully, worker, stimulus)
    told = {"op": "worker-status-change", "status": worker.status.name, "stimulus_id": stimulus}
    scheduler.stream_comms[worker.address].send(told)


@contextmanager
def _memory_manager(scheduler: Any) -> Iterator[ActiveMemoryManagerExtension]:
    """Give the scheduler's memory manager, or where that is off one of our own."""
    usual = scheduler.extensions.get("amm")
    if usual is not None and usual.running:
        yield usual
        return
    own = ActiveMemoryManagerExtension(
        scheduler, policies=set(), register=False, start=True, interval=INTERVAL
    )
    try:
        yield own
    finally:
        own.stop()
