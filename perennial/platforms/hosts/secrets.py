"""What a cluster on hosts keeps secret, on the operator's side."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from perennial.errors import Fault, SpecError
from perennial.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of a cluster, all that its machines need; never shown, not even by `repr`."""

    #: Certificate of the cluster's authority, PEM.
    ca: str = field(repr=False)
    #: Its private key, PEM. It stays on the operator's side, where it signs.
    ca_key: str = field(repr=False)
    #: JupyterLab's token.
    token: str = field(repr=False)
    #: The operator's own certificate for JupyterLab and its key, PEM; None where the cluster's
    #: authority signs one.
    jupyter_certificate: str | None = field(default=None, repr=False)
    jupyter_key: str | None = field(default=None, repr=False)


def own_certificate(spec: ClusterSpec) -> tuple[str, str] | None:
    """Read the operator's certificate for JupyterLab and its key, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if spec.jupyter is None or spec.jupyter.certificate is None or spec.jupyter.key is None:
        return None
    certificate = _read("certificate", spec.jupyter.certificate)
    key = _read("key", spec.jupyter.key)
    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError:
        raise _fault("certificate", "no certificate", "a certificate in PEM") from None
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise _fault("key", "a key with a password", "a private key without one") from None
    except ValueError:
        raise _fault("key", "no private key", "a private key in PEM") from None
    if private.public_key() != public:
        raise _fault("key", "the key of another certificate", "the key of jupyter.certificate")
    return certificate.decode("ascii"), key.decode("ascii")


def _read(key: str, path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _fault(key, f"{path!r}: {reason}", "a file in PEM") from None
    if not data.isascii():
        raise _fault(key, f"{path!r}: not text", "a file in PEM")
    return data


def _fault(key: str, found: str, allowed: str) -> SpecError:
    return SpecError([Fault(f"jupyter.{key}", found, allowed, "name another file")])
