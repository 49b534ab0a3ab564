"""Tell the clients of people from those that Dask has for itself."""

from __future__ import annotations

from collections.abc import Iterable

#: A task's own client, and what holds a published dataset.
_OWN = ("Client-worker-", "published-")


def people(clients: Iterable[str]) -> int:
    """Count the clients of people."""
    return sum(map(is_person, clients))


def is_person(client: str) -> bool:
    """Say whether a client is one of a person's."""
    return client != "fire-and-forget" and not client.startswith(_OWN)
