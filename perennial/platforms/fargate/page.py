"""``python -m … SOCKET PATH…``: a scheduler's pages as a JSON list, from within its task.

Run there by `aws ecs execute-command`: the pages are at a socket that nothing else reaches.
"""

from __future__ import annotations

import json
import sys

from perennial.fetching import get
from perennial.pages import parsed
from perennial.unix import UnixConnection

#: Seconds that each page may take.
TIMEOUT = 5.0

if __name__ == "__main__":
    where, *paths = sys.argv[1:]
    print(json.dumps([parsed(get(UnixConnection(where, TIMEOUT), path)) for path in paths]))
