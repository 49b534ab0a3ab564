"""Ends a deployment early, where the platform knows that a resource never becomes ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

#: Returns what can never be ready, a line each.
Hopeless = Callable[[], Sequence[str]]
#: Seconds between two looks.
LOOK = 3.0


class Watch:
    """Polls the platform in a thread while the engine works."""

    def __init__(self, interrupt: Callable[[], None], hopeless: Hopeless | None) -> None:
        self._interrupt = interrupt
        self._hopeless = hopeless or (lambda: ())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: What can never be ready.
        self.lines: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(LOOK)

    def _run(self) -> None:
        while not self._ended.wait(LOOK):
            try:
                lines = self._hopeless()
            except Exception:  # noqa: S112 - the engine goes on, and says what is wrong there
                continue
            if lines and not self._ended.is_set():
                self.lines = [*lines]
                self._interrupt()
                return
