"""A page of the scheduler that lists its workers and counts its users.

Given to it with ``--preload``.

Dask's page of the same, ``/json/identity.json``, fails for as long as a worker's latest heartbeat
tells how long tasks took: those times stand under keys that JSON cannot hold. So it fails
whenever there is work. This one has nothing but names and states.
"""

from __future__ import annotations

from typing import Any

from distributed import Scheduler
from distributed.http.utils import RequestHandler

from perennial.preloads.clients import user_clients

#: Path of the page:
#: ``{"workers": {ADDRESS: {"name": …, "status": …, "actors": 0}}, "clients": 1}``.
PATH = "/perennial/workers.json"


class WorkerList(RequestHandler):  # type: ignore[misc]
    """The page."""

    def get(self) -> None:
        """List the workers, and count the clients."""
        self.write(
            {
                "workers": {
                    address: {
                        "name": str(worker.name),
                        "status": str(worker.status.name),
                        "actors": len(worker.actors),
                    }
                    for address, worker in self.server.workers.items()
                },
                "clients": user_clients(self.server.clients),
            }
        )


def dask_setup(scheduler: Any) -> None:
    """Add the page."""
    if isinstance(scheduler, Scheduler):
        scheduler.http_application.add_handlers(
            ".*$", [(PATH, WorkerList, {"dask_server": scheduler})]
        )
