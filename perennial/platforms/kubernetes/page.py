"""``python -m … WHERE PATH…``: a scheduler's pages as a JSON list, from within a pod.

They are at a socket, or at ``host:port`` of a scheduler that is not ours.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection

from perennial.fetching import get
from perennial.pages import parsed
from perennial.unix import UnixConnection

#: Seconds that each page may take.
TIMEOUT = 5.0

if __name__ == "__main__":
    where, *paths = sys.argv[1:]

    def connection() -> HTTPConnection:
        """Make a connection; it serves one page."""
        if where.startswith("/"):
            return UnixConnection(where, TIMEOUT)
        host, _, port = where.rpartition(":")
        return HTTPConnection(host, int(port), timeout=TIMEOUT)

    print(json.dumps([parsed(get(connection(), path)) for path in paths]))
