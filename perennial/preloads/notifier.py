"""Wakes the scaler between two ticks."""

from __future__ import annotations

import asyncio


class Notifier:
    """Counts events, and lets others wait for the next one."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def notify(self) -> None:
        """Count an event. To be called where the event loop runs."""
        self.count += 1
        self._more.set()

    async def wait(self, known: int, seconds: float) -> int:
        """Wait until there are more events than the caller knows."""
        try:
            async with asyncio.timeout(seconds):
                while self.count == known:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pass
        return self.count
