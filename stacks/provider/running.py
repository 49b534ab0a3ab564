"""A failure is told when nothing else is being done: the engine begins nothing new after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds in which the engine begins what has waited for something that is done.
PAUSE = 1.0


class Running:
    """What is being done side by side, in one event loop."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._begun = self._doing = 0
        self._ended = asyncio.Event()
        self._cancelled = asyncio.Event()

    @contextmanager
    def doing(self) -> Iterator[None]:
        """Something is being done meanwhile."""
        self._begun += 1
        self._doing += 1
        try:
            yield
        finally:
            self._doing -= 1
            self._ended.set()

    def cancel(self) -> None:
        """Wait for nothing any more."""
        self._cancelled.set()

    async def finished(self) -> None:
        """Wait until nothing else is being done, and nothing else begins."""
        while not self._cancelled.is_set():
            begun = self._begun
            if self._doing:
                self._ended.clear()
                await self._first(self._ended, None)
                continue
            await self._first(self._cancelled, self._pause)
            if begun == self._begun:
                return

    async def _first(self, event: asyncio.Event, timeout: float | None) -> None:
        waits = [asyncio.ensure_future(each.wait()) for each in {event, self._cancelled}]
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
