"""Look at a machine before it is changed, and refuse what cannot work there."""

from __future__ import annotations

import time

from perennial.errors import FleetError
from perennial.platforms.hosts.agent.answers import Look
from perennial.platforms.hosts.claims import claims, refuse
from perennial.platforms.hosts.desired_state import Init
from perennial.platforms.hosts.machine_services import MachineServices
from perennial.platforms.hosts.ownership import Owner, refuse_other_stack
from perennial.platforms.hosts.remote import Agent

#: Seconds by which two clocks may differ; certificates are valid from five minutes before.
SKEW = 240.0
#: systemd that knows LoadCredential and all that the units say.
OLDEST_SYSTEMD = 247


def look(agent: Agent, assigned: MachineServices) -> Look:
    """Ask a machine for all that a deploy must know of it."""
    target = assigned.target
    names = [name for name in (target.internal, target.address) if name]
    ports = [port for part in assigned.services for port in part.access.ports]
    begun = time.time()
    found: Look = agent.ask(
        "look",
        cluster=assigned.cluster,
        names=names,
        interface=target.interface,
        ports=ports,
        claims=claims(assigned),
    )
    # The machine read its clock somewhere between the question and the answer.
    found["ahead"] = found["time"] - min(max(found["time"], begun), time.time())
    return found


def manager(assigned: MachineServices, found: Look) -> Init:
    """Choose a machine's service manager: systemd, unless the cluster file names supervisord."""
    if not assigned.target.needs_root:
        return "supervisord"
    if not found["systemd"]:
        raise FleetError(
            f"{assigned.target.name}: no systemd runs this machine;"
            " write `init: supervisord` for it"
        )
    if found["systemd"] < OLDEST_SYSTEMD:
        raise FleetError(
            f"{assigned.target.name}: found systemd {found['systemd']};"
            f" allowed: {OLDEST_SYSTEMD} or"
            " newer; write `init: supervisord` for it"
        )
    return "systemd"


def check(assigned: MachineServices, found: Look, owner: Owner) -> None:
    """Refuse what cannot work, before anything is changed."""
    name = assigned.target.name
    refuse_other_stack(name, assigned.cluster, found["manifest"], owner)
    refuse(name, assigned.cluster, found["clashes"])
    if abs(found["ahead"]) > SKEW:
        way = "ahead of" if found["ahead"] > 0 else "behind"
        raise FleetError(
            f"{name}: its clock is {abs(found['ahead']):.0f} s {way} this machine's, so no"
            " certificate would be valid; set it right, such as by `timedatectl set-ntp true`"
        )
    for part in assigned.services:
        for port in part.access.ports:
            who = found["taken"].get(str(port))
            if who:
                raise FleetError(
                    f"{name}: port {port}, which {part.name} needs, is taken by {who};"
                    " stop that, or write another port"
                )
