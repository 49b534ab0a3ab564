"""Load the libraries that are slow to load, one thread at a time.

asyncssh and cryptography load parts of themselves when they are needed first, and those parts
import each other: where two threads begin at two ends, Python finds a deadlock and raises.
"""

from __future__ import annotations

import threading
from contextlib import suppress

_loading = threading.Lock()


def load() -> None:
    """Load them, if they are installed; to be called before a thread may use either."""
    with _loading, suppress(ImportError):
        import asyncssh  # noqa: F401
        from cryptography import x509  # noqa: F401
        from cryptography.hazmat.backends.openssl import backend  # noqa: F401
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: F401
