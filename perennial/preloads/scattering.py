"""Let scattered data wait for the first worker of all, as tasks do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from time import monotonic
from typing import Any

#: Seconds that data waits for a worker to start, beside Dask's own timeout.
TIMEOUT = 900.0
#: Seconds between two looks.
LOOK = 0.1


class Scatters:
    """The calls of `Client.scatter` that wait for a worker."""

    def __init__(
        self, scheduler: Any, tell: Callable[[], None], scaled: Callable[[], bool]
    ) -> None:
        self.scheduler = scheduler
        self.waiting = 0
        self._tell = tell
        self._scaled = scaled

    def install(self) -> None:
        """Replace the scheduler's own handler."""
        scatter = self.scheduler.handlers["scatter"]

        @wraps(scatter)
        async def patient(*args: Any, **kwargs: Any) -> Any:
            # Data for certain workers waits for none but these, which a new one is not.
            if kwargs.get("workers") is None and not self.scheduler.running:
                await self._first_worker(kwargs.get("client"))
            return await scatter(*args, **kwargs)

        self.scheduler.handlers["scatter"] = patient

    async def _first_worker(self, client: Any) -> None:
        end = monotonic() + TIMEOUT
        self.waiting += 1
        self._tell()
        try:
            while not self.scheduler.running and client in self.scheduler.clients:
                if not self._scaled() or monotonic() > end:
                    return
                await asyncio.sleep(LOOK)
        finally:
            self.waiting -= 1
