"""``python -m perennial.tunnel CLUSTER``: the process that keeps a tunnel."""

from __future__ import annotations

import sys

from perennial.tunnel.manage import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
