"""What stands in the folder of the scheduler's pages, see `perennial.preloads.gate`. Pure."""

from __future__ import annotations

#: The unix socket on which the scheduler serves its pages. Few letters: its path has 107 bytes.
SOCKET = "http"
#: The token that opens the pages on their port.
TOKEN = "token"  # noqa: S105 - the file's name


def socket_of(folder: str) -> str:
    """Path of the socket; empty where there is no folder."""
    return f"{folder}/{SOCKET}" if folder else ""


def token_of(folder: str) -> str:
    """Path of the token."""
    return f"{folder}/{TOKEN}"
