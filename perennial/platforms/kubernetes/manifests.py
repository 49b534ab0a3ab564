"""From a cluster file to Kubernetes' objects: plain values, in the order to make them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perennial.platforms.kubernetes import code, names
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.network import policies
from perennial.platforms.kubernetes.options import PRELOADS, Ingress, Options, SchedulerIngress
from perennial.platforms.kubernetes.parts import Part, parts
from perennial.platforms.kubernetes.pods import key_of, template
from perennial.quoting import check_filled
from perennial.spec import ClusterSpec

#: Version of the Prometheus operator's objects.
MONITORS = "monitoring.coreos.com/v1"
#: Key of the token in the Secret of the metrics.
METRICS = "metrics-token"
#: Old versions of a Deployment's pods that `kubectl rollout undo` can go back to.
HISTORY = 3


def manifests(spec: ClusterSpec) -> dict[str, list[Manifest]]:
    """Describe every object of a cluster, by the part that it belongs to."""
    every = parts(spec)
    found = {PRELOADS: [code.config_map(spec.name, spec.options.namespace)]}
    found |= {part.key: list(_of_part(spec, part)) for part in every}
    for key, policy in policies(spec, every):
        found[key].append(policy)
    return found


def _of_part(spec: ClusterSpec, part: Part) -> Iterator[Manifest]:
    if part.pod.service_account is None:
        yield _object(spec, part, "v1", "ServiceAccount", automountServiceAccountToken=False)
    if part.service.role == "scaler":
        yield from _rights(spec, part)
    for file in part.service.files:
        check_filled(file.text, file.path)
    data = {key_of(file.path): file.text for file in part.service.files}
    yield _object(spec, part, "v1", "ConfigMap", data=data)
    if part.service.role == "jupyter":
        yield from _of_jupyter(spec, part)
    if part.service.role in ("scheduler", "jupyter"):
        yield _service(spec, part)
    passed = spec.options.scheduler.ingress
    if part.service.role == "scheduler" and passed is not None:
        yield _ingress(spec, part, passed, "comm", {})
    metrics = spec.options.metrics
    served = part.service.role in ("scheduler", "worker")
    if served and metrics is not None and metrics.monitor is not None:
        yield _monitor(spec, part)
    if budget := _budget(spec, part):
        yield budget
    yield deployment(spec, part)


def deployment(spec: ClusterSpec, part: Part) -> Manifest:
    """Describe the Deployment of a part; the size of a group that is scaled is the scaler's."""
    group = part.service.group
    # Two schedulers behind one Service, or two writers of one home, are none.
    strategy: Manifest = {"type": "Recreate"}
    if group is not None:
        own = spec.options.group(group)
        rolling = {"maxSurge": own.max_surge, "maxUnavailable": own.max_unavailable}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    size = 1 if group is None else spec.workers[group].count
    return _object(
        spec,
        part,
        "apps/v1",
        "Deployment",
        spec={
            **({} if group in spec.scaled else {"replicas": size}),
            "revisionHistoryLimit": HISTORY,
            "selector": {"matchLabels": names.selector(spec.name, part.key)},
            "strategy": strategy,
            "template": template(spec, part),
        },
    )


def _of_jupyter(spec: ClusterSpec, part: Part) -> Iterator[Manifest]:
    own = spec.options.jupyter
    if own.storage is not None and own.storage.claim is None:
        wanted: Manifest = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": own.storage.size}},
        }
        if own.storage.storage_class is not None:
            wanted["storageClassName"] = own.storage.storage_class
        yield _object(spec, part, "v1", "PersistentVolumeClaim", spec=wanted)
    if own.ingress is not None:
        tls = {"secretName": own.ingress.tls_secret} if own.ingress.tls_secret else None
        yield _ingress(spec, part, own.ingress, "https", tls)


def _ingress(
    spec: ClusterSpec, part: Part, own: Ingress | SchedulerIngress, port: str, tls: Manifest | None
) -> Manifest:
    backend = {"service": {"name": part.name, "port": {"name": port}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    wanted: Manifest = {"rules": [{"host": own.host, "http": {"paths": paths}}]}
    if own.class_name is not None:
        wanted["ingressClassName"] = own.class_name
    if tls is not None:
        wanted["tls"] = [{"hosts": [own.host], **tls}]
    made = _object(spec, part, "networking.k8s.io/v1", "Ingress", spec=wanted)
    return _annotated(made, own.annotations)


def _service(spec: ClusterSpec, part: Part) -> Manifest:
    options: Options = spec.options
    own = options.scheduler.service if part.key == "scheduler" else options.jupyter.service
    port = spec.scheduler.port if part.key == "scheduler" else spec.ports()["jupyter.port"]
    name = "comm" if part.key == "scheduler" else "https"
    wanted: Manifest = {
        "type": own.type,
        "selector": names.selector(spec.name, part.key),
        "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"}],
    }
    if own.source_ranges:
        wanted["loadBalancerSourceRanges"] = own.source_ranges
    return _annotated(_object(spec, part, "v1", "Service", spec=wanted), own.annotations)


def _monitor(spec: ClusterSpec, part: Part) -> Manifest:
    """Say how Prometheus reads the metrics; a PodMonitor, since the Service may be public."""
    own = spec.options.metrics.monitor
    secret = names.secret_names(spec.name)["metrics"]
    endpoint: Manifest = {
        "path": "/metrics",
        "scheme": "https" if spec.security.tls else "http",
        "interval": own.interval,
        "authorization": {"type": "Bearer", "credentials": {"name": secret, "key": METRICS}},
    }
    if spec.security.tls:
        # The certificates of all servers have the names of the scheduler's Service.
        host = f"{names.name_of(spec.name, 'scheduler')}.{spec.options.namespace}.svc"
        ca = {"secret": {"name": secret, "key": "ca.pem"}}
        endpoint["tlsConfig"] = {"ca": ca, "serverName": host}
    if own.relabelings:
        endpoint["metricRelabelings"] = own.relabelings
    processes = spec.workers[part.service.group].processes if part.service.group else 1
    wanted: Manifest = {
        "selector": {"matchLabels": names.selector(spec.name, part.key)},
        "podMetricsEndpoints": [
            {"port": port, **endpoint} for port in names.metrics_ports(processes)
        ],
    }
    if own.job_label is not None:
        wanted["jobLabel"] = own.job_label
    if own.target_labels:
        wanted["podTargetLabels"] = own.target_labels
    made = _object(spec, part, MONITORS, "PodMonitor", spec=wanted)
    made["metadata"]["labels"] = {**own.labels, **made["metadata"]["labels"]}
    return made


def _budget(spec: ClusterSpec, part: Part) -> Manifest | None:
    """Say how many pods a node drain may evict at a time; None where it does not matter."""
    if part.service.role == "scaler":
        return None
    options: Options = spec.options
    wanted: Manifest = {"selector": {"matchLabels": names.selector(spec.name, part.key)}}
    if part.service.group is not None:
        wanted["maxUnavailable"] = options.group(part.service.group).evictable
        # Members that never got ready would keep a node from being drained; one that hangs for a
        # moment is drained as any other.
        wanted["unhealthyPodEvictionPolicy"] = "AlwaysAllow"
    else:
        wanted["maxUnavailable"] = int(getattr(options, part.key).evictable)
    return _object(spec, part, "policy/v1", "PodDisruptionBudget", spec=wanted)


def _rights(spec: ClusterSpec, part: Part) -> Iterator[Manifest]:
    """Let the scaler size its own groups; pods cannot be named, so its namespace's are its own."""
    mine = [names.name_of(spec.name, group) for group in spec.workers]
    rules = [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": mine,
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": mine,
            "verbs": ["get", "patch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["resourcequotas"], "verbs": ["list"]},
    ]
    group = "rbac.authorization.k8s.io"
    account = part.pod.service_account or part.name
    subject = {"kind": "ServiceAccount", "name": account, "namespace": spec.options.namespace}
    yield _object(spec, part, f"{group}/v1", "Role", rules=rules)
    yield _object(
        spec,
        part,
        f"{group}/v1",
        "RoleBinding",
        roleRef={"apiGroup": group, "kind": "Role", "name": part.name},
        subjects=[subject],
    )


def _object(cluster: ClusterSpec, part: Part, version: str, kind: str, **content: Any) -> Manifest:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": part.name,
            "namespace": cluster.options.namespace,
            "labels": names.labels(cluster.name, part.service.role, part.key),
        },
        **content,
    }


def _annotated(made: Manifest, annotations: Manifest) -> Manifest:
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made
