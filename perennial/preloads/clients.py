"""Which clients are users', and which are Dask's own."""

from __future__ import annotations

from collections.abc import Iterable

#: A task's own client, and what holds a published dataset.
_OWN = ("Client-worker-", "published-")


def user_clients(clients: Iterable[str]) -> int:
    """Count the clients of people."""
    return sum(map(is_user_client, clients))


def is_user_client(client: str) -> bool:
    """Say whether a client is one of a person's."""
    return client != "fire-and-forget" and not client.startswith(_OWN)
