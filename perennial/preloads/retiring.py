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
    worker = dask_scheduler.workers.get(address)
    if worker is None:
        return True
    _begin_to_leave(dask_scheduler, worker)
    with _memory_manager(dask_scheduler) as manager:
        policy = _policy(manager, address)
        try:
            while not policy.done():
                # As often as Dask looks: it costs the more, the more there is.
                await asyncio.sleep(max(0.01, min(0.5, len(worker.has_what) / 400)))
            if policy in manager.policies:
                manager.run_once()  # the copies here are dropped
        finally:
            manager.policies.discard(policy)
    return not policy.no_recipients


async def move_all(addresses: Collection[str], dask_scheduler: Any) -> list[str]:
    """In the scheduler: move away what some workers hold; give those for which that worked."""
    for address in addresses:  # all before the first one moves: none takes over from another
        if (worker := dask_scheduler.workers.get(address)) is not None:
            _begin_to_leave(dask_scheduler, worker)
    moved = await asyncio.gather(*(move(address, dask_scheduler) for address in addresses))
    return [address for address, worked in zip(addresses, moved, strict=True) if worked]


def _begin_to_leave(scheduler: Any, worker: Any) -> None:
    """Have the scheduler give a worker no tasks and no copies any more."""
    stimulus = f"perennial-retiring-{monotonic()}"
    scheduler.handle_worker_status_change(Status.closing_gracefully, worker, stimulus)


def _policy(manager: ActiveMemoryManagerExtension, address: str) -> Retiring:
    """Give what moves a worker's keys: whoever has asked for that before may still wait."""
    for policy in manager.policies:
        if isinstance(policy, Retiring) and policy.address == address:
            return policy
    policy = Retiring(address)
    manager.add_policy(policy)
    manager.run_once()
    return policy


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
