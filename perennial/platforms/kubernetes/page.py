"""``python -m … SOCKET PATH…``: a scheduler's pages as a JSON list, from within its pod."""

from __future__ import annotations

import json
import sys

from perennial.pages import parsed
from perennial.unix import UnixConnection, get

#: Seconds that each page may take.
TIMEOUT = 5.0

if __name__ == "__main__":
    socket, *paths = sys.argv[1:]
    print(json.dumps([parsed(get(UnixConnection(socket, TIMEOUT), path)) for path in paths]))
