"""What makes a plain ``Client()`` work: connections, Dask's configuration, bundles."""

from perennial.connect.bundle import export_bundle, loopback_host, loopback_notice, read_bundle
from perennial.connect.configuration import current, exports, remove, variables, write
from perennial.connect.connection import (
    Connection,
    choose,
    expiry_notices,
    find,
    known,
    load,
    save,
)
from perennial.tls import Tls

__all__ = [
    "Connection",
    "Tls",
    "choose",
    "current",
    "expiry_notices",
    "export_bundle",
    "exports",
    "find",
    "known",
    "load",
    "loopback_host",
    "loopback_notice",
    "read_bundle",
    "remove",
    "save",
    "variables",
    "write",
]
