"""The name under which standing clusters start services.

See `perennial.supervision.single_instance`.

It stands in the text of clusters that an earlier version has started: under another name, each of
their services would be replaced.
"""

import os
import sys

if __name__ == "__main__":
    # By its path: run as a file and without the package, see there.
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.argv[0] = os.path.join(package, "supervision", "single_instance.py")
    with open(sys.argv[0], "rb") as source:
        exec(compile(source.read(), sys.argv[0], "exec"))  # noqa: S102 - our own text
