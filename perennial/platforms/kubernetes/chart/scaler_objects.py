"""What is put beside an adopted release: a scaler, its rights, and what protects it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.chart.release import Release, ReleaseGroup
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.parts import CONFIG, SCALER, KubernetesHandle
from perennial.platforms.kubernetes.pods import ALIVE

#: Says which release an object is beside.
ADOPTS = f"{names.OURS}/adopts"
#: Sizes that the groups had before, as JSON, on the scaler's ConfigMap.
BEFORE = f"{names.OURS}/replicas-before"
#: Port on loopback of the scaler's pages.
PORT = 8790
#: Port of the scheduler in its pod; the chart knows no other.
COMM, PAGES = 8786, 8787
#: Kinds in the order to make them; they go the other way round.
KINDS = (
    *("ServiceAccount", "Role", "RoleBinding", "ConfigMap", "PodDisruptionBudget"),
    *("NetworkPolicy", "Deployment"),
)
_RBAC = "rbac.authorization.k8s.io"
_NOBODY = 10001


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a release shall be scaled."""

    #: Image of the scaler, with dask-perennial[kubernetes] in it.
    image: str
    #: Bounds by group.
    bounds: Mapping[str, tuple[int, int]]
    #: Seconds: between two looks, without work until a member may leave, and of a drain.
    interval: float = 5.0
    idle: float = 300.0
    drain: float = 60.0
    #: Whether it gets network policies, and disruption budgets.
    policies: bool = False
    budgets: bool = False


def name_of(release: str) -> str:
    """Name everything that is put beside a release."""
    return f"{release}-perennial"


def objects_of(release: Release, wanted: Wanted, before: Mapping[str, int]) -> Iterator[Manifest]:
    """Describe each object, in the order to make them."""
    own = name_of(release.name)
    settings = f"{json.dumps(scaler_settings(release, wanted), indent=2)}\n"
    yield _object(release, "v1", "ServiceAccount", automountServiceAccountToken=False)
    yield _object(release, f"{_RBAC}/v1", "Role", rules=rights(release))
    subject = {"kind": "ServiceAccount", "name": own, "namespace": release.namespace}
    role = {"apiGroup": _RBAC, "kind": "Role", "name": own}
    yield _object(release, f"{_RBAC}/v1", "RoleBinding", roleRef=role, subjects=[subject])
    config = _object(release, "v1", "ConfigMap", data={"scaler.json": settings})
    config["metadata"]["annotations"] = {BEFORE: json.dumps(dict(before), sort_keys=True)}
    yield config
    if wanted.budgets:
        yield from _budgets(release)
    if wanted.policies:
        yield from _policies(release)
    yield _deployment(release, wanted, settings)


def scaler_settings(release: Release, wanted: Wanted) -> Manifest:
    """Say what the scaler is told, see `perennial.scaler.settings`."""
    return {
        "cluster": release.name,
        "platform": "kubernetes",
        "scheduler": release.scheduler,
        "http": release.http,
        "adopted": True,
        "interval": wanted.interval,
        "port": PORT,
        "state": SCALER,
        "groups": [_group(release, wanted, each) for each in release.groups],
    }


def rights(release: Release) -> list[Manifest]:
    """Say what the scaler may do: size the release's own groups, and see and remove pods."""
    mine = [each.deployment for each in release.groups]
    return [
        _rule("apps", "deployments", ["get", "list", "watch"], mine),
        _rule("apps", "deployments/scale", ["get", "patch"], mine),
        _rule("apps", "replicasets", ["list"]),
        _rule("", "pods", ["list", "watch", "patch", "delete"]),
        _rule("", "resourcequotas", ["list"]),
    ]


def _rule(group: str, resource: str, verbs: list[str], mine: list[str] | None = None) -> Manifest:
    rule: Manifest = {"apiGroups": [group], "resources": [resource], "verbs": verbs}
    return rule | ({"resourceNames": mine} if mine is not None else {})


def _group(release: Release, wanted: Wanted, group: ReleaseGroup) -> Manifest:
    """Write the rules of a group; of one without bounds the size is its Deployment's."""
    least, most = wanted.bounds.get(group.name, (0, 100_000))
    fixed = group.name not in wanted.bounds
    handle = KubernetesHandle(
        group=group.name,
        namespace=release.namespace,
        deployment=group.deployment,
        fixed=fixed,
        adopted=True,
    )
    return {
        "name": group.name,
        "min": least,
        "max": most,
        "slots": group.threads * group.processes,
        "processes": group.processes,
        "memory": group.memory * group.processes,
        "cost": 0.0 if fixed else 1.0,
        "idle": wanted.idle,
        "drain": wanted.drain,
        "fleet": handle.to_json(),
    }


def _deployment(release: Release, wanted: Wanted, settings: str) -> Manifest:
    own = name_of(release.name)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    return _object(
        release,
        "apps/v1",
        "Deployment",
        spec={
            "replicas": 1,
            "selector": {"matchLabels": {ADOPTS: release.name}},
            "strategy": {"type": "Recreate"},  # two of them would both size the groups
            "template": {
                "metadata": {
                    "labels": _labels(release),
                    "annotations": {names.FINGERPRINT: digest},
                },
                "spec": {
                    "serviceAccountName": own,
                    "automountServiceAccountToken": True,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": _NOBODY,
                        "runAsGroup": _NOBODY,
                        "fsGroup": _NOBODY,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(wanted)],
                    "volumes": [
                        {"name": "config", "configMap": {"name": own}},
                        {"name": "state", "emptyDir": {}},
                        {"name": "tmp", "emptyDir": {}},
                    ],
                },
            },
        },
    )


def _container(wanted: Wanted) -> Manifest:
    python = ["python", "-P", "-m"]
    health = [*python, "perennial.platforms.kubernetes.health", f"127.0.0.1:{PORT}"]
    probe = {"exec": {"command": health}, "periodSeconds": ALIVE, "timeoutSeconds": ALIVE}
    return {
        "name": "scaler",
        "image": wanted.image,
        "command": [*python, "perennial.scaler", f"{CONFIG}/scaler.json"],
        "workingDir": SCALER,
        "env": [{"name": "HOME", "value": SCALER}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": probe,
        "livenessProbe": {**probe, "initialDelaySeconds": 2 * ALIVE, "failureThreshold": 4},
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            {"name": "state", "mountPath": SCALER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
        ],
    }


def _budgets(release: Release) -> Iterator[Manifest]:
    """Let a node drain evict one worker at a time, and not the scheduler."""
    for part, most in (("scheduler", 0), ("worker", 1)):
        selector = {"matchLabels": {**release.labels, "component": part}}
        spec = {"maxUnavailable": most, "selector": selector}
        yield _object(release, "policy/v1", "PodDisruptionBudget", part, spec=spec)


def _policies(release: Release) -> Iterator[Manifest]:
    """Let the release's own pods, the scaler and its clients reach the scheduler, and no others.

    Its dashboard stays as open as it was, and its Service too, where that is not ClusterIP.
    """
    own = {"podSelector": {"matchLabels": release.labels}}
    scaler = {"podSelector": {"matchLabels": {ADOPTS: release.name}}}
    client = {"podSelector": {"matchLabels": {names.client_label(release.name): "true"}}}
    comm = [{"port": COMM, "protocol": "TCP"}]
    inside = {"from": [own, scaler, client], "ports": comm}
    pages = {"ports": [{"port": PAGES, "protocol": "TCP"}]}
    ingress = {
        "scheduler": [{"ports": comm} if release.is_open else inside, pages],
        "worker": [{"from": [own]}],
    }
    for part, allowed in ingress.items():
        selector = {"matchLabels": {**release.labels, "component": part}}
        spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": allowed}
        yield _object(release, "networking.k8s.io/v1", "NetworkPolicy", part, spec=spec)


def _labels(release: Release) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "dask-scaler",
        "app.kubernetes.io/managed-by": names.OURS,
        ADOPTS: release.name,
    }


def _object(release: Release, version: str, kind: str, part: str = "", **content: Any) -> Manifest:
    own = name_of(release.name)
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": f"{own}-{part}" if part else own,
            "namespace": release.namespace,
            "labels": _labels(release),
        },
        **content,
    }
