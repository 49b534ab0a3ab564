"""``python -m perennial.counts_page SOCKET``: what `perennial.pages.counts_of` reads, as JSON.

Run where the scheduler runs, as nothing else reaches its pages. Of its workers, whose list may be
longer than what Systems Manager returns, only the number of clients is printed.
"""

from __future__ import annotations

import json
import sys

from perennial.fetching import get
from perennial.pages import COUNTS, ROSTER, parsed
from perennial.unix import UnixConnection

#: Seconds that each page may take.
TIMEOUT = 5.0

if __name__ == "__main__":
    counts, roster = (
        parsed(get(UnixConnection(sys.argv[1], TIMEOUT), path)) for path in (COUNTS, ROSTER)
    )
    print(json.dumps([counts, {key: roster[key] for key in roster if key == "clients"}]))
