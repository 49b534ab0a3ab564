"""Let only those register as workers who show the certificate of a worker.

The authority of a cluster signs one certificate for each role, and Dask asks only whether it has
signed. So a client could start a worker and be given others' tasks and data. The scheduler looks
here at the role, which is the common name, on the connection by which a worker or a nanny
registers.

It is no wall between clients: Dask runs what a client sends, in the scheduler as well.
"""

from __future__ import annotations

import logging
from functools import wraps
from time import time
from typing import Any

logger = logging.getLogger("distributed.perennial.registration")

#: The operations by which workers and nannies register.
OPERATIONS = ("register-worker", "register_nanny")


def guard(scheduler: Any) -> None:
    """Refuse what registers without a worker's certificate."""
    for operation in OPERATIONS:
        scheduler.handlers[operation] = _guarded(scheduler.handlers[operation])


def role(comm: Any) -> str | None:
    """Role in the certificate that the other side of a connection has shown; None without one."""
    subject = (comm.extra_info.get("peercert") or {}).get("subject", ())
    return next((value for part in subject for name, value in part if name == "commonName"), None)


def _guarded(handler: Any) -> Any:
    @wraps(handler)
    async def register(comm: Any, **said: Any) -> Any:
        found = role(comm)
        if found == "worker":
            return await handler(comm, **said)
        why = f"{comm.peer_address}: found the certificate of a {found}; allowed: that of a worker"
        logger.warning("refused to register %s", why)
        await comm.write({"status": "error", "message": why, "time": time(), "nanny-plugins": {}})
        return None

    return register
