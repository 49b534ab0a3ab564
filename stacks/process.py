"""The process in which Pulumi's engine runs our providers: when it ends, and how much at a time."""

from __future__ import annotations

import gc
import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor

from perennial import ssh

#: Machines that are worked on side by side. Each costs a thread and a connection of SSH.
AT_ONCE = 32

_begun = threading.Event()


def prepare() -> None:
    """Prepare this process for what it is going to do; called often, it does so once."""
    if not _begun.is_set():
        _begun.set()
        threading.Thread(target=_watch, daemon=True).start()
        widen()


def _watch() -> None:
    """End this process when the engine is gone, however it went.

    It would otherwise outlive an engine that was killed, and go on changing machines beside
    the next one. The engine reads this process's standard output for as long as it lives, so a
    pipe without a reader says that it is gone.
    """
    pipe = select.poll()
    pipe.register(1, 0)  # nothing is asked for but errors, which are always reported
    pipe.poll()
    ssh.close()
    os._exit(1)


def widen() -> None:
    """Let more threads answer the engine than Pulumi's server of providers has.

    It answers four questions at a time, whatever ``--parallel`` says, and a machine that is
    deployed is one question. The pool is the one that this thread belongs to; where it is
    not found, it stays as it is.
    """
    own = threading.current_thread()
    for pool in [each for each in gc.get_objects() if type(each) is ThreadPoolExecutor]:
        if own in pool._threads:
            pool._max_workers = max(pool._max_workers, AT_ONCE)
