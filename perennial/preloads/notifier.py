"""Tell the scaler at once of what it should not find out at its next tick."""

from __future__ import annotations

import asyncio


class Notifier:
    """Counts what is worth a look, and lets others wait for more."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def notify(self) -> None:
        """Say that there is something new. To be called where the event loop runs."""
        self.count += 1
        self._more.set()

    async def wait(self, known: int, seconds: float) -> int:
        """Wait until there is more than somebody knows."""
        try:
            async with asyncio.timeout(seconds):
                while self.count == known:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pass
        return self.count
