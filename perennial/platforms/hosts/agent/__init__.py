"""What runs on a machine of a cluster, as root, while a deploy looks at it or changes it.

The operator's side sends these modules over SSH, and nothing of them is installed but what a keeper
is made of (`perennial.platforms.hosts.program`). So they and all that they import need Python's
standard library alone (3.11 or newer, as the services do); `perennial.platforms.hosts.remote` holds
the list of what is sent. Each operation can be cut off anywhere and is whole again when it is run
again.
"""
