"""Whether a container is well: ``python -m … WHERE``; exits 0 or 1, as ECS looks at it.

WHERE is the socket of the scheduler's pages, ``HOST:PORT`` of the scaler's, ``https:PORT`` of
JupyterLab, or the file that a worker leaves once it is ready.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPSConnection

from perennial.fetching import get
from perennial.unix import UnixConnection

#: Seconds; the look's own limit is above it.
TIMEOUT = 10.0


def is_well(where: str) -> bool:
    """Whether what is there answers, or is there."""
    if where.startswith("https:"):
        # Whoever else listens here is this container as well.
        trusted = ssl._create_unverified_context()  # noqa: S323
        number = int(where.partition(":")[2])
        page = HTTPSConnection("127.0.0.1", number, timeout=TIMEOUT, context=trusted)
        return get(page, "/login") is not None
    if where.endswith("/ready"):
        return os.path.exists(where)
    if where.startswith("/"):
        return get(UnixConnection(where, TIMEOUT), "/health") is not None
    host, _, port = where.rpartition(":")
    return get(HTTPConnection(host, int(port), timeout=TIMEOUT), "/health") is not None


if __name__ == "__main__":
    sys.exit(not is_well(sys.argv[1]))
