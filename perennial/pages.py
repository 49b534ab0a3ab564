"""The scheduler's pages: where (see `perennial.preloads.gate`), and what they say. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

#: The unix socket on which the scheduler serves its pages. Few letters: its path has 107 bytes.
SOCKET = "http"
#: The token that opens the pages on their port.
TOKEN = "token"  # noqa: S105 - the file's name

#: Page with the scheduler's numbers.
COUNTS = "/json/counts.json"
#: Pages with the names of the workers: our own, and Dask's for a scheduler without it, which
#: fails while there is work (see `perennial.preloads.roster`).
ROSTER = "/perennial/workers.json"
WORKERS = (ROSTER, "/json/identity.json")

#: No count reaches it; Python does not even write a number of thousands of digits.
_MANY = 2**63


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


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has registered, as the page says."""

    name: str
    status: str = ""
    actors: int = 0


def socket_of(folder: str) -> str:
    """Path of the socket; empty where there is no folder."""
    return f"{folder}/{SOCKET}" if folder else ""


def token_of(folder: str) -> str:
    """Path of the token."""
    return f"{folder}/{TOKEN}"


def parsed(body: bytes | str | None) -> dict[str, Any]:
    """Parse a page of a scheduler's; empty for anything but a JSON object."""
    try:
        found = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def workers_of(page: Mapping[str, Any]) -> list[Worker]:
    """Read the workers of a page; without those that it does not describe as it should."""
    listed = page.get("workers")
    found = listed.values() if isinstance(listed, dict) else ()
    return [
        Worker(str(each["name"]), str(each.get("status", "")), _whole(each.get("actors")))
        for each in found
        if isinstance(each, dict) and isinstance(each.get("name"), str | int)
    ]


def _whole(value: object) -> int:
    """Return a count; 0 for anything else."""
    return value if isinstance(value, int) and 0 <= value < _MANY else 0


def counts_of(page: Mapping[str, Any], roster: Mapping[str, Any]) -> Counts | None:
    """Read a scheduler's numbers; None where one is missing or is no number."""
    try:
        found = Counts(
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
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        return None
    return found if all(number < _MANY for number in astuple(found)) else None
