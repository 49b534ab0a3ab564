"""Cancels work in threads: what a thread waits for over SSH is cut, and it begins nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from perennial.errors import FleetError

Result = TypeVar("Result")


class Stop:
    """Ends the work of another thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._cuts: list[Callable[[], None]] = []
        self.asked = False

    @staticmethod
    def current() -> Stop:
        """Return what stops the work of this thread; one that nobody asks where nothing does."""
        return _current.get() or Stop()

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work that can be stopped, in this thread."""
        before = _current.set(self)
        try:
            return work()
        finally:
            _current.reset(before)

    def ask(self) -> None:
        """Cut what the work waits for: it ends with an error."""
        with self._guard:
            self.asked = True
            for cut in self._cuts:
                cut()

    def refuse(self, where: str) -> None:
        """Begin nothing more."""
        if self.asked:
            raise FleetError(f"{where}: stopped before anything more was asked of it")

    @contextmanager
    def cutting(self, where: str, cut: Callable[[], None]) -> Iterator[None]:
        """Have something cut that is used meanwhile."""
        with self._guard:
            self.refuse(where)
            self._cuts.append(cut)
        try:
            yield
        finally:
            with self._guard:
                self._cuts.remove(cut)


_current: ContextVar[Stop | None] = ContextVar("stop", default=None)
