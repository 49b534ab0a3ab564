"""End this process when Pulumi's engine is gone, however it went."""

from __future__ import annotations

import os
import select
import threading

_begun = threading.Event()


def hold() -> None:
    """Watch the engine from now on; called often, it begins once.

    The process of the providers would otherwise outlive an engine that was killed, and go on
    changing machines beside the next one. The engine reads this process's standard output
    for as long as it lives, so a pipe without a reader says that it is gone.
    """
    if not _begun.is_set():
        _begun.set()
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    pipe = select.poll()
    pipe.register(1, 0)  # nothing is asked for but errors, which are always reported
    pipe.poll()
    os._exit(1)
