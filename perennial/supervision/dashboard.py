"""HTTP of the scheduler on this machine: is it well, who is there, what runs.

Read with the standard library, so that `perennial status` need not import distributed.
"""

from __future__ import annotations

import http.client
import os
from typing import Any

from perennial.fetching import get
from perennial.pages import COUNTS, ROSTER, WORKERS, Counts, Worker, counts_of, parsed, workers_of
from perennial.supervision import listening
from perennial.unix import UnixConnection


class Dashboard:
    """HTTP of a scheduler on this machine."""

    def __init__(self, port: int, timeout: float = 5.0, socket: str = "", lock: str = "") -> None:
        self.port, self.socket, self.lock = port, socket, lock
        self._timeout = timeout

    def _get(self, path: str) -> bytes | None:
        if self.socket and os.path.exists(self.socket):
            return get(UnixConnection(self.socket, self._timeout), path)
        if self.socket and not listening.is_of(self.lock, self.port):
            return None
        plain = http.client.HTTPConnection(listening.LOOPBACK, self.port, timeout=self._timeout)
        return get(plain, path)

    def _json(self, path: str) -> dict[str, Any]:
        return parsed(self._get(path))

    def _workers(self) -> list[Worker]:
        """List the workers that have registered; empty when there is no answer."""
        for path in WORKERS:
            if page := self._json(path):
                return workers_of(page)
        return []

    def healthy(self) -> bool:
        """Whether the scheduler answers."""
        return self._get("/health") is not None

    def worker_names(self) -> frozenset[str]:
        """Names of the workers that have registered; empty when there is no answer."""
        return frozenset(worker.name for worker in self._workers())

    def parked(self) -> frozenset[str]:
        """Names of the workers that begin no more tasks, because they were to leave."""
        return frozenset(
            worker.name for worker in self._workers() if worker.status == "closing_gracefully"
        )

    def actors(self) -> dict[str, int]:
        """Count the actors of each worker that holds any, by the worker's name."""
        return {worker.name: worker.actors for worker in self._workers() if worker.actors}

    def counts(self) -> Counts | None:
        """Read the scheduler's numbers; None when there is no answer."""
        found = self._json(COUNTS)
        return counts_of(found, self._json(ROSTER)) if found else None
