"""From a cluster file to services: the one place that knows Dask's command line. Pure.

A `Service` is a platform-neutral value: one process that must be kept running. A worker
group is one service with `INSTANCE` in the place of the member's number, so that a group's
text does not change with its size; `Service.member` fills the number in. Where only the
machine itself knows on which address it listens, `ADDRESS` stands; `Service.at` fills it in.
"""

from perennial.services.cluster import services
from perennial.services.configuration import merge, nested
from perennial.services.dask import (
    host,
    jupyter,
    scheduler,
    scheduler_address,
    worker,
    worker_memory,
    worker_names,
)
from perennial.services.scaler import scaler
from perennial.services.values import (
    ADDRESS,
    CREDENTIALS,
    FOLDER,
    INSTANCE,
    LOOPBACK,
    MACHINE,
    PLACEHOLDERS,
    START_TIMEOUT,
    Access,
    Command,
    File,
    Lifecycle,
    Limits,
    Service,
    Site,
    filled,
    fingerprint,
    from_json,
    to_json,
)

__all__ = [
    "ADDRESS",
    "CREDENTIALS",
    "FOLDER",
    "INSTANCE",
    "LOOPBACK",
    "MACHINE",
    "PLACEHOLDERS",
    "START_TIMEOUT",
    "Access",
    "Command",
    "File",
    "Lifecycle",
    "Limits",
    "Service",
    "Site",
    "filled",
    "fingerprint",
    "from_json",
    "host",
    "jupyter",
    "merge",
    "nested",
    "scaler",
    "scheduler",
    "scheduler_address",
    "services",
    "to_json",
    "worker",
    "worker_memory",
    "worker_names",
]
