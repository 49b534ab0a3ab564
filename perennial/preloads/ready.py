"""Tell systemd when a Dask process is ready and that it is alive (``Type=notify``).

Given with ``--preload`` to the scheduler and with ``--preload-nanny`` to workers. Does nothing
where the service manager has set no ``NOTIFY_SOCKET``. supervisord has no such thing: there the
process id is written to the file that ``PERENNIAL_READY`` names, once it is ready.

- ``READY=1`` once the scheduler listens; for a worker once it has registered with its
  scheduler; for several workers of one process once all of them have.
- ``WATCHDOG=1`` from the event loop, at half of the watchdog's time or sooner, so that a
  process whose event loop hangs is restarted.
- ``STATUS=`` beside it, for ``systemctl status``.
- ``STOPPING=1`` when the process begins to close. List this module after the one that drains:
  Dask calls the last one first.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import Any

import click
from distributed import Scheduler
from distributed.core import Status
from distributed.utils import clean_dashboard_address

from perennial.preloads.systemd_notify import notify

logger = logging.getLogger("distributed.perennial.ready")

#: Seconds between two reports, where no watchdog asks for more.
INTERVAL = 10.0

#: Variable that names a file to be written, see `perennial.supervision.single_instance`.
MARK = "PERENNIAL_READY"

#: Schedulers and nannies of this process that are open, and those of them not yet ready.
_open: set[Any] = set()
_starting: set[Any] = set()
_reports: set[asyncio.Task[None]] = set()


def dask_setup(server: Any) -> None:
    """Begin to report, where anybody listens."""
    _keep_dashboard_port(server)
    if not {"NOTIFY_SOCKET", MARK} & os.environ.keys():
        return
    _open.add(server)
    _starting.add(server)
    task = asyncio.get_running_loop().create_task(_report(server))
    _reports.add(task)
    task.add_done_callback(_reports.discard)


def dask_teardown(server: Any) -> None:
    """Say that the process stops, once all that it runs does."""
    if server in _open:
        _open.discard(server)
        if not _open:
            notify("STOPPING=1")


def _keep_dashboard_port(server: Any) -> None:
    """End a scheduler whose dashboard is elsewhere than asked: Dask moves it where it is taken.

    Whoever took the port would be shown in its place, in JupyterLab's own origin.
    """
    context = click.get_current_context(silent=True)
    if not isinstance(server, Scheduler) or context is None:
        return
    option = "dashboard_address"
    if context.get_parameter_source(option) is not click.core.ParameterSource.COMMANDLINE:
        return
    asked = int(clean_dashboard_address(context.params[option])[0]["port"] or 0)
    if asked and server.http_server.port != asked:
        raise SystemExit(
            f"dashboard: port {asked} is taken by another process, so the scheduler does not run;"
            " stop that process or change scheduler.dashboard_port"
        )


async def _report(server: Any) -> None:
    """Say when the server is ready, then that it is alive, as long as there is an event loop.

    Until the process ends and not only until it closes: a worker drains before it closes.
    """
    while server.status != Status.running:
        if server.status in (Status.closing, Status.closed, Status.failed):
            return
        await asyncio.sleep(0.05)
    _starting.discard(server)
    if not _starting:
        notify("READY=1", f"STATUS={_status()}")
        _mark()
    while True:
        await asyncio.sleep(_interval())
        notify("WATCHDOG=1", f"STATUS={_status()}")


def _mark() -> None:
    """Leave the process id where it is looked for, where it is."""
    path = os.environ.get(MARK, "")
    if not path:
        return
    try:
        with open(f"{path}.{os.getpid()}", "w", opener=partial(os.open, mode=0o600)) as file:
            file.write(str(os.getpid()))
        os.replace(file.name, path)  # atomically
    except OSError as error:
        logger.warning("%s: %s", path, error)


def _interval() -> float:
    """Seconds between two reports."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return min(INTERVAL, int(microseconds) / 2e6) if microseconds.isdigit() and ours else INTERVAL


def _status() -> str:
    """Describe what the process runs, in one line."""
    return "; ".join(sorted(map(_describe, _open))) or "stopping"


def _describe(server: Any) -> str:
    """Describe a scheduler or a worker."""
    if isinstance(server, Scheduler):
        counts = ("worker", server.workers), ("task", server.tasks)
        return ", ".join(f"{len(each)} {noun}{'s' * (len(each) != 1)}" for noun, each in counts)
    return f"{server.name} at {server.worker_address}"
