"""Who may reach whom: the network policies of a cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.options import Options
from perennial.platforms.kubernetes.parts import Part
from perennial.spec import ClusterSpec

#: Where clouds give away a node's own rights.
METADATA = ("169.254.169.254/32", "fd00:ec2::254/128")
#: Whom user code makes connections for.
RUNS_CODE = ("scheduler", "worker", "jupyter")


def policies(spec: ClusterSpec, parts: Sequence[Part]) -> Iterator[tuple[str, Manifest]]:
    """Yield the policy of each part, with the part's key."""
    options: Options = spec.options
    if not options.network.policies:
        return
    for part in parts:
        role = part.service.role
        limited = role in RUNS_CODE and not options.network.metadata
        yield (
            part.key,
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {
                    "name": part.name,
                    "namespace": options.namespace,
                    "labels": names.labels(spec.name, role, part.key),
                },
                "spec": {
                    "podSelector": {"matchLabels": names.selector(spec.name, part.key)},
                    "policyTypes": ["Ingress", *(["Egress"] if limited else [])],
                    "ingress": [*_ingress(spec, role), *_readers(spec, part)],
                    **({"egress": _egress()} if limited else {}),
                },
            },
        )


def _ingress(spec: ClusterSpec, role: str) -> list[Manifest]:
    options: Options = spec.options
    if role == "scheduler":
        port = [{"port": spec.scheduler.port, "protocol": "TCP"}]
        peers = [{"podSelector": {"matchLabels": _cluster(spec)}}, *_clients(spec)]
        own = options.scheduler
        is_open = own.ingress is not None or own.service.type != "ClusterIP"
        return [{"ports": port}] if is_open else [{"from": peers, "ports": port}]
    if role == "worker":  # at ports that Dask picks
        others = {"key": "app.kubernetes.io/component", "operator": "In", "values": [*RUNS_CODE]}
        peer = {"podSelector": {"matchLabels": _cluster(spec), "matchExpressions": [others]}}
        return [{"from": [peer]}]
    lab = options.jupyter
    is_open = lab.ingress is not None or lab.service.type != "ClusterIP"
    if role == "jupyter" and spec.jupyter is not None and is_open:
        return [{"ports": [{"port": spec.jupyter.port, "protocol": "TCP"}]}]
    return []  # a forwarded port comes from the pod's own node, which no policy stops


def _readers(spec: ClusterSpec, part: Part) -> Iterator[Manifest]:
    """Yield who may read the metrics; the token says who does."""
    metrics = spec.options.metrics
    if metrics is None or part.service.role not in ("scheduler", "worker"):
        return
    named = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        for namespace in metrics.namespaces
    ]
    processes = spec.workers[part.service.group].processes if part.service.group else 1
    ports = [{"port": metrics.port + each, "protocol": "TCP"} for each in range(processes)]
    yield {"from": named or [{"podSelector": {}}], "ports": ports}


def _clients(spec: ClusterSpec) -> Iterator[Manifest]:
    """Yield pods with the label of a client: of this namespace, and of those that are named."""
    client = {"podSelector": {"matchLabels": {names.client_label(spec.name): "true"}}}
    yield client
    for namespace in spec.options.network.client_namespaces:
        where = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        yield {"namespaceSelector": where, **client}


def _egress() -> list[Manifest]:
    """Allow everything but the metadata service; some networks do not count pods as addresses."""
    one, other = METADATA
    return [
        {"to": [{"namespaceSelector": {}}]},
        {
            "to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": [one]}},
                {"ipBlock": {"cidr": "::/0", "except": [other]}},
            ]
        },
    ]


def _cluster(spec: ClusterSpec) -> dict[str, str]:
    return {"app.kubernetes.io/instance": spec.name}
