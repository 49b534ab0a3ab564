"""The name under which standing clusters have a machine changed, see `perennial.supervision.part`.

Environments that an earlier version has made know no other one.
"""

from perennial.supervision.part import main

if __name__ == "__main__":
    main()
