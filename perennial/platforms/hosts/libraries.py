"""Load the library that is slow to load, one thread at a time.

cryptography loads parts of itself when they are needed first, and those parts import each other:
where two threads begin at two ends, Python finds a deadlock and raises.
"""

from __future__ import annotations

import threading

_loading = threading.Lock()


def load() -> None:
    """Load it; to be called before a thread may use it."""
    with _loading:
        from cryptography import x509  # noqa: F401
        from cryptography.hazmat.backends.openssl import backend  # noqa: F401
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: F401
