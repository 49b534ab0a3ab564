"""Leave a worker's own process to its nanny. Given with ``--preload``; runs in that process.

A signal to the whole process group (``kill -- -PGID``, Ctrl-C, a batch system, a service
manager that signals every process) reaches the worker as well as its nanny. The worker would
end at once, and with it the tasks and the data that the nanny's drain is there to save. So
the worker does nothing on such a signal; its nanny acts, and stops the worker through their
queue or, if need be, with SIGKILL.

When the connection to the scheduler is lost, what the worker's tasks still compute has nobody
to go to, and Dask ends the worker; but it first waits up to 30 s for the tasks' threads. Here
it waits for `GRACE` seconds, so that the worker is soon back with the next scheduler.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger("distributed.perennial.keep")

#: Signals on which the nanny stops its worker.
STOP = (signal.SIGTERM, signal.SIGINT)

#: Signals that batch systems send ahead of those; unless the worker has a use for them.
WARNING = (signal.SIGUSR1, signal.SIGUSR2)

#: Seconds that running tasks have to end by themselves when the scheduler is gone.
GRACE = 1.0


def dask_setup(worker: Any) -> None:
    """Do nothing on signals that are for the nanny."""
    if worker.nanny is None:
        return
    for number in (*STOP, *WARNING):
        if number in STOP or signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave_to_nanny)
    os.register_at_fork(after_in_child=_restore)


def dask_teardown(worker: Any) -> None:
    """End the process soon when the worker closes because its scheduler is gone."""
    if worker.nanny is None or not worker.batched_stream.closed():
        return
    timer = threading.Timer(GRACE, os._exit, args=[0])
    timer.daemon = True  # a worker with nothing to wait for ends before
    timer.start()


def _leave_to_nanny(number: int, frame: FrameType | None) -> None:
    """Do nothing. A handler and not SIG_IGN, which programs that tasks start would inherit."""


def _restore() -> None:
    """In a process that a task forks, let signals do again what they usually do."""
    for number in (*STOP, *WARNING):
        if signal.getsignal(number) is _leave_to_nanny:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
