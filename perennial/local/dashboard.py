"""The scheduler's own HTTP pages: is it well, who is there, what runs.

Read with the standard library, so that `perennial status` need not import distributed.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.local import ports
from perennial.unix import UnixConnection, get

#: Pages with the names of the workers: our own, and Dask's for a scheduler without it, which
#: fails while there is work (see `perennial.preloads.roster`).
ROSTER = "/perennial/workers.json"
WORKERS = (ROSTER, "/json/identity.json")


@dataclass(frozen=True, slots=True)
class Counts:
    """The scheduler's own numbers."""

    #: Who is connected.
    workers: int
    threads: int
    clients: int
    #: Tasks that the scheduler knows.
    tasks: int
    #: Tasks by state.
    processing: int
    waiting: int
    memory: int
    erred: int
    #: Tasks that no worker can run now.
    unrunnable: int
    #: Bytes of results that the workers hold.
    nbytes: int


class Dashboard:
    """HTTP of a scheduler on this machine."""

    def __init__(self, port: int, timeout: float = 5.0, socket: str = "", lock: str = "") -> None:
        self.port, self.socket, self.lock = port, socket, lock
        self._timeout = timeout

    def _get(self, path: str) -> bytes | None:
        if self.socket and os.path.exists(self.socket):
            return get(UnixConnection(self.socket, self._timeout), path)
        if self.socket and not ports.is_of(self.lock, self.port):
            return None
        plain = http.client.HTTPConnection(ports.LOOPBACK, self.port, timeout=self._timeout)
        return get(plain, path)

    def _json(self, path: str) -> dict[str, Any]:
        return parsed(self._get(path))

    def _workers(self) -> list[dict[str, Any]]:
        """List the workers that have registered; empty when there is no answer."""
        for path in WORKERS:
            if page := self._json(path):
                listed = page.get("workers", {})
                found = listed.values() if isinstance(listed, dict) else ()
                return [one for one in found if isinstance(one, dict) and "name" in one]
        return []

    def healthy(self) -> bool:
        """Whether the scheduler answers."""
        return self._get("/health") is not None

    def worker_names(self) -> frozenset[str]:
        """Names of the workers that have registered; empty when there is no answer."""
        return frozenset(str(worker["name"]) for worker in self._workers())

    def parked(self) -> frozenset[str]:
        """Names of the workers that begin no more tasks, because they were to leave."""
        return frozenset(
            str(worker["name"])
            for worker in self._workers()
            if worker.get("status") == "closing_gracefully"
        )

    def actors(self) -> dict[str, int]:
        """Count the actors of each worker that holds any, by the worker's name."""
        found = {str(worker["name"]): int(worker.get("actors", 0)) for worker in self._workers()}
        return {name: count for name, count in found.items() if count}

    def counts(self) -> Counts | None:
        """Read the scheduler's numbers; None when there is no answer."""
        found = self._json("/json/counts.json")
        return counts_of(found, self._json(ROSTER)) if found else None


def parsed(body: bytes | str | None) -> dict[str, Any]:
    """Parse a page of a scheduler's; empty for anything but a JSON object."""
    try:
        found = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def counts_of(page: Mapping[str, Any], roster: Mapping[str, Any]) -> Counts | None:
    """Read a scheduler's numbers; None where one is missing or is no number."""
    try:
        return Counts(
            workers=int(page["workers"]),
            threads=int(page["cores"]),
            clients=int(roster.get("clients", page["clients"] - 1)),  # one is "fire-and-forget"
            tasks=int(page["tasks"]),
            processing=int(page["processing"]),
            waiting=int(page["waiting"]),
            memory=int(page["memory"]),
            erred=int(page["erred"]),
            unrunnable=int(page["unrunnable"]),
            nbytes=int(page["bytes"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
