"""SSH by the user's own `ssh`: whatever it can do, and their configuration says, works here.

`ssh` makes and holds the connection to a machine, as a control master of our own. Processes and
forwardings are asked of it over its control socket, which takes along nothing but the command.
"""

from perennial.ssh.attempt import UnreachableError
from perennial.ssh.folder import close
from perennial.ssh.masters import cancel, log_in
from perennial.ssh.session import Channel, Session
from perennial.ssh.stopping import Stop
from perennial.ssh.target import Hop, parse_jump
from perennial.ssh.waiting import Wait

__all__ = [
    "Channel",
    "Hop",
    "Session",
    "Stop",
    "UnreachableError",
    "Wait",
    "cancel",
    "close",
    "log_in",
    "parse_jump",
]
