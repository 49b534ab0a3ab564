"""Whether a scheduler or a scaler is well: ``python -m … SOCKET`` or ``HOST:PORT``; exits 0 or 1.

A probe of the kubelet comes from outside the pod, where neither of them listens.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection

from perennial.fetching import get
from perennial.unix import UnixConnection

#: Seconds; the probe's own limit is above it.
TIMEOUT = 10.0


def answers(where: str) -> bool:
    """Whether ``GET /health`` is answered with 200."""
    if where.startswith("/"):
        return get(UnixConnection(where, TIMEOUT), "/health") is not None
    host, _, port = where.rpartition(":")
    return get(HTTPConnection(host, int(port), timeout=TIMEOUT), "/health") is not None


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1]))
