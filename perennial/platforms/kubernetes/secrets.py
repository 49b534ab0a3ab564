"""The Secrets of a cluster: ``python -m … CLUSTER.yaml | kubectl apply -f -``.

The authority, the keys and Jupyter's token are made once and stay in the cluster's folder of this
user. Each Secret has what one role reads; the authority's key is in none.
"""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial import authority
from perennial.connect import Connection, Tls, save
from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.paths import ClusterPaths, cluster_state
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.files import written
from perennial.platforms.kubernetes.manifests import METRICS
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.parts import client_address
from perennial.spec import load
from perennial.stacked import remember, token_file

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec

#: Certificate and key of JupyterLab's own port.
JUPYTER = ("jupyter.pem", "jupyter-key.pem")


def prepared(spec: ClusterSpec, file: str) -> ClusterPaths:
    """Make what is missing of a cluster's secrets, renew what ends soon; remember the cluster."""
    paths = cluster_state(spec.name)
    remember(spec, file, paths)
    reached = reached_by(spec, "scheduler")
    authority.ensure(paths.tls, spec.name, reached)
    soon = datetime.now(UTC) + authority.RENEW_WITHIN
    ends = authority.expiry(paths.tls)
    if min(ends[role] for role in authority.ROLES) < soon:
        authority.renew(paths.tls, spec.name, reached)
    if spec.jupyter is not None:
        _prepare_jupyter(spec, paths, soon)
    metrics = token_file(paths).with_name(METRICS)
    if spec.options.metrics is not None and not metrics.exists():
        write_atomic(metrics, secrets.token_hex(24))
    save(
        paths,
        Connection(
            cluster=spec.name,
            scheduler_address=client_address(spec),
            tls=Tls.in_folder(paths.tls) if spec.security.tls else None,
            jupyter_url=jupyter_url(spec),
        ),
    )
    return paths


def manifests(spec: ClusterSpec, paths: ClusterPaths) -> list[Manifest]:
    """Describe the Secrets, from what stands in the cluster's folder."""
    token = token_file(paths)
    found = []
    for name, files in contents(spec).items():
        folders = (token.parent if file.endswith("-token") else paths.tls for file in files)
        read = ((folder / file).read_bytes() for folder, file in zip(folders, files, strict=True))
        data = {file: encoded(content) for file, content in zip(files, read, strict=True)}
        found.append(secret(spec, name, data))
    return found


def contents(spec: ClusterSpec) -> dict[str, tuple[str, ...]]:
    """Say which files each Secret holds."""
    known = names.secret_names(spec.name)
    found: dict[str, tuple[str, ...]] = {}
    if spec.security.tls:
        for role in authority.ROLES:
            found[known[role]] = ("ca.pem", f"{role}.pem", f"{role}-key.pem")
    if spec.jupyter is not None:
        found[known["jupyter"]] = (*JUPYTER, "jupyter-token")
    if spec.options.metrics is not None:  # the authority's certificate for whoever reads them
        found[known["metrics"]] = (*(["ca.pem"] if spec.security.tls else []), METRICS)
    return found


def reached_by(spec: ClusterSpec, role: str) -> tuple[str, ...]:
    """Names under which a server of a role is reached: those in its certificate."""
    if role != "jupyter":
        outside = spec.options.scheduler.ingress
        return (*dns_names(spec, "scheduler"), *([outside.host] if outside else []))
    ingress = spec.options.jupyter.ingress
    here = ("localhost", "127.0.0.1")  # a forwarded port's
    return (*dns_names(spec, "jupyter"), *here, *([ingress.host] if ingress else []))


def dns_names(spec: ClusterSpec, part: str) -> tuple[str, ...]:
    """Names under which a Service is reached."""
    name = names.name_of(spec.name, part)
    namespace = spec.options.namespace
    short = (name, f"{name}.{namespace}", f"{name}.{namespace}.svc")
    return (*short, f"{name}.{namespace}.svc.cluster.local")


def _prepare_jupyter(spec: ClusterSpec, paths: ClusterPaths, soon: datetime) -> None:
    from perennial import certificates

    token = token_file(paths)
    if not token.exists():
        write_atomic(token, secrets.token_hex(24))
    reached = reached_by(spec, "jupyter")
    cert, key = (paths.tls / name for name in JUPYTER)
    there = cert.read_bytes() if cert.exists() and key.exists() else b""
    end = certificates.ends(there)
    signer = authority.signer(paths.tls, spec.name)
    pair = certificates.Pair(there, key.read_bytes() if there else b"")
    fits = there and certificates.fault(signer.cert, pair) is None
    if fits and end is not None and end > soon and certificates.covers(there, reached):
        return
    # A scheduler's certificate would let JupyterLab's users stand in for the scheduler.
    made = certificates.make_certificate(signer, "jupyter", reached, datetime.now(UTC), pair.key)
    write_atomic(key, made.key)
    write_atomic(cert, made.cert)


def jupyter_url(spec: ClusterSpec) -> str | None:
    """Where JupyterLab is found; None where there is none."""
    if spec.jupyter is None:
        return None
    ingress = spec.options.jupyter.ingress
    if ingress is not None:
        return f"https://{ingress.host}/lab"
    host = f"{names.name_of(spec.name, 'jupyter')}.{spec.options.namespace}.svc"
    return f"https://{host}:{spec.ports()['jupyter.port']}/lab"


def encoded(content: bytes) -> str:
    """Write a file as a Secret holds it."""
    return base64.b64encode(content).decode()


def secret(spec: ClusterSpec, name: str, data: Mapping[str, Any]) -> Manifest:
    """Describe a Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": spec.options.namespace,
            "labels": names.labels(spec.name, "secret", "secret"),
        },
        "type": "Opaque",
        "data": dict(data),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the Secrets of a cluster to standard output, unless a person would read them."""
    if len(arguments) != 1:
        print("usage: python -m perennial.platforms.kubernetes.secrets FILE", file=sys.stderr)
        return 2
    if sys.stdout.isatty():
        raise PerennialError(
            "stdout is a terminal, and this writes private keys; add `| kubectl apply -f -`"
        )
    spec = load(Path(arguments[0]))
    if not isinstance(getattr(spec.options, "namespace", None), str):
        raise PerennialError(
            f"{arguments[0]}: found the platform {spec.platform}; allowed: kubernetes"
        )
    print(written(manifests(spec, prepared(spec, str(Path(arguments[0]).absolute())))), end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PerennialError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
