"""The name under which standing clusters watch their scheduler, see `perennial.supervision.health`.

It stands in the text of clusters that an earlier version has started: under another name, each of
their services would be replaced.
"""

import sys

from perennial.supervision.health import main

if __name__ == "__main__":
    main(sys.argv[1:])
