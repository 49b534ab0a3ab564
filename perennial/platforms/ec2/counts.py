"""``python -m … SOCKET``: the scheduler's numbers as JSON, from its own instance."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from perennial.fetching import get
from perennial.pages import ROSTER, counts_of, parsed
from perennial.unix import UnixConnection

#: Seconds that each page may take.
TIMEOUT = 5.0

if __name__ == "__main__":
    pages = [
        parsed(get(UnixConnection(sys.argv[1], TIMEOUT), path))
        for path in ("/json/counts.json", ROSTER)
    ]
    found = counts_of(*pages)
    print(json.dumps(None if found is None else asdict(found)))
