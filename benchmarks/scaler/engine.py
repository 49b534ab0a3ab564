"""Virtual time: what happens when, in order, with no waiting."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

Action = Callable[..., None]


class Clock:
    """Events in the order of their times; those of the same time in the order they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._numbers = count()

    def after(self, seconds: float, action: Action, *arguments: Any) -> None:
        """Do something in so many seconds."""
        self.at(self.now + seconds, action, *arguments)

    def at(self, time: float, action: Action, *arguments: Any) -> None:
        """Do something at a time."""
        heapq.heappush(self._events, (time, next(self._numbers), action, arguments))

    def every(self, interval: float, first: float, action: Callable[[], None]) -> None:
        """Do something again and again."""

        def again() -> None:
            action()
            self.after(interval, again)

        self.at(first, again)

    def run(self, until: Callable[[], float]) -> None:
        """Let time pass until the time that `until` gives, asked again after every event."""
        events = self._events
        while events and events[0][0] <= until():
            self.now, _, action, arguments = heapq.heappop(events)
            action(*arguments)
        self.now = max(self.now, until())
