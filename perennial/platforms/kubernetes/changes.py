"""Whether anything has changed, so that nobody has to ask the API server again and again.

A watch is only a bell here: after it has rung, whoever asks reads the truth. Where there is no
watch, since the API server is away or does not allow it, everything may have changed at any time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

#: Seconds after which the API server ends a watch.
LENGTH = 3600
#: Seconds to connect, and without a word before a watch is taken for dead; about once a minute
#: the API server tells by a bookmark that nothing has happened.
SILENCE = (5, 200)
#: Seconds of the first pause after a watch that has failed, and of the longest.
PAUSE, LONGEST = 1.0, 300.0
#: Seconds after which the truth is read although no bell has rung.
OLDEST = 1200.0

_BOOKMARK, _ERROR = b'{"type":"BOOKMARK"', b'{"type":"ERROR"'


class Changes:
    """Watches of several lists, each in a thread that ends with the process."""

    def __init__(self, lists: tuple[Callable[..., Any], ...]) -> None:
        self._lists = lists
        self._open = [False] * len(lists)
        self._rung = True
        self._looked = float("-inf")
        self._started = False

    def looked(self) -> None:
        """Say that the truth is read now; call it before."""
        if not self._started and self._looked > float("-inf"):  # whoever looks once needs none
            self._started = True
            for number in range(len(self._lists)):
                threading.Thread(target=self._watch, args=(number,), daemon=True).start()
        self._rung, self._looked = False, time.monotonic()

    def forget(self) -> None:
        """Say that something is being changed from here."""
        self._rung = True

    @property
    def possible(self) -> bool:
        """Whether anything may have changed since the truth was read."""
        return self._rung or not all(self._open) or time.monotonic() > self._looked + OLDEST

    def _watch(self, number: int) -> None:
        pause = PAUSE
        while True:
            begun = time.monotonic()
            try:
                for line in self._lines(number):
                    if line.startswith(_ERROR):
                        raise OSError(line)
                    if not line.startswith(_BOOKMARK):
                        self._rung = True
            except Exception:  # of any layer below; the next one tells whether it is serious
                pause = min(LONGEST, pause * 2)
            self._open[number] = False
            if time.monotonic() > begun + LONGEST:
                pause = PAUSE
            time.sleep(pause)

    def _lines(self, number: int) -> Iterator[bytes]:
        """Open a watch from now on, and read it."""
        ask = self._lists[number]
        now = ask(limit=1, _request_timeout=SILENCE).metadata.resource_version
        answer = ask(
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=now,
            timeout_seconds=LENGTH,
            _preload_content=False,
            _request_timeout=SILENCE,
        )
        try:
            self._rung = self._open[number] = True
            rest = b""
            for chunk in answer.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        finally:
            answer.close()
