"""The name under which standing clusters have a machine changed.

See `perennial.supervision.run_once`.

Environments that an earlier version has made know no other one.
"""

from perennial.supervision.run_once import main

if __name__ == "__main__":
    main()
