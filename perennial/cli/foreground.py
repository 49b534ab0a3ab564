"""`up --wait`: stay with a cluster on this machine until a signal, then take it down."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.contracts import Runtime

#: Seconds between two looks.
_LOOK = 0.5


@dataclass
class Stop:
    """Whether this process was asked to end."""

    asked: bool = False


@contextmanager
def until_asked() -> Iterator[Stop]:
    """Record a SIGTERM instead of exiting, from before the cluster starts until it is down."""
    stop = Stop()

    def note(*_: object) -> None:
        stop.asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def stay(running: Runtime, stop: Stop) -> bool:
    """Stay until a signal or the end of the cluster; True where it is still to be taken down."""
    from perennial.paths import cluster_state

    name, missed = running.name, 0
    paths = cluster_state(name)
    try:
        print(f"{name}: waiting; SIGTERM or Ctrl-C takes the cluster down", flush=True)
        while not stop.asked:
            time.sleep(_LOOK)
            _reap()
            if running.supervisor():
                missed = 0
                continue
            missed += 1
            if not paths.spec.exists():
                return False
            if missed * _LOOK > 30:
                raise PerennialError(
                    f"{name}: its supervisord has ended; run `perennial up --wait` again: it adopts"
                    " what still runs"
                )
    except KeyboardInterrupt:
        pass
    return True


def _reap() -> None:
    """Take the exit codes of processes whose parent has gone, where this is a container's init."""
    if os.getpid() != 1:
        return
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass
