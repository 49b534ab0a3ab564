"""Typed arguments of kubernetes; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi

from .common import ClusterArgs


@dataclass(kw_only=True)
class PodArgs:
    """What can be said of pods: of all, of a service, or of a group."""

    image: pulumi.Input[str] | None = None
    """Container image with distributed 2026.6 or newer; JupyterLab's has JupyterLab as well, and
    the scaler's this package and the client kubernetes."""
    image_pull_policy: pulumi.Input[Literal["Always", "IfNotPresent", "Never"]] | None = None
    """When the image is pulled; Kubernetes' own choice when it is not given."""
    image_pull_secrets: Sequence[pulumi.Input[str]] | None = None
    """Secrets with which the image is pulled."""
    service_account: pulumi.Input[str] | None = None
    """Service account; one without any right is made when it is not given."""
    resources: ResourcesArgs | Mapping[str, Any] | None = None
    """Resources, beside the memory and the threads that the cluster file says."""
    node_selector: Mapping[str, pulumi.Input[str]] | None = None
    """Labels that a node must have."""
    tolerations: Sequence[Mapping[str, pulumi.Input[Any]]] | None = None
    """Taints of nodes that are accepted, as Kubernetes writes them."""
    affinity: Mapping[str, pulumi.Input[Any]] | None = None
    """Affinity, as Kubernetes writes it."""
    spread: Sequence[Mapping[str, pulumi.Input[Any]]] | None = None
    """Topology spread constraints; the label selector is added where it is missing, and
    `ScheduleAnyway` for those that cannot be met."""
    priority_class: pulumi.Input[str] | None = None
    """Priority class."""
    labels: Mapping[str, pulumi.Input[str]] | None = None
    """More labels of the pods."""
    annotations: Mapping[str, pulumi.Input[str]] | None = None
    """More annotations of the pods."""
    volumes: Sequence[Mapping[str, pulumi.Input[Any]]] | None = None
    """More volumes, as Kubernetes writes them."""
    volume_mounts: Sequence[Mapping[str, pulumi.Input[Any]]] | None = None
    """Where the container has them."""
    extra_pod_spec: Mapping[str, pulumi.Input[Any]] | None = None
    """Anything else of a pod's specification, as Kubernetes writes it; merged strategically over
    what is made here, and `null` removes a key. `perennial check` warns of what the Pod
    Security level Restricted would refuse."""


@dataclass(kw_only=True)
class ResourcesArgs:
    """Resources of a pod, beside those that the cluster file says."""

    requests: Mapping[str, pulumi.Input[str]] | None = None
    """What a node must have free for the pod."""
    limits: Mapping[str, pulumi.Input[str]] | None = None
    """What the pod may use."""


@dataclass(kw_only=True)
class NetworkArgs:
    """What the network policies allow; they hold where the cluster's network enforces them."""

    policies: bool | None = None
    """Whether there are any. Without them every pod reaches the scheduler, where TLS is what
    protects it, and tasks reach the cloud's metadata service. Default: `True`."""
    client_namespaces: Sequence[pulumi.Input[str]] | None = None
    """Other namespaces whose pods may reach the scheduler, with the label of its clients."""
    metadata: pulumi.Input[bool] | None = None
    """Whether tasks and notebooks may reach the cloud's metadata service, which gives away the
    node's own rights. Default: `False`."""


@dataclass(kw_only=True)
class MonitorArgs:
    """PodMonitors for the Prometheus operator: one of the scheduler, and one of each group."""

    interval: pulumi.Input[str] | None = None
    """How often the metrics are read. Default: `30s`."""
    labels: Mapping[str, pulumi.Input[str]] | None = None
    """Labels by which a Prometheus chooses its monitors."""
    job_label: pulumi.Input[str] | None = None
    """Label of the pods that names the job."""
    target_labels: Sequence[pulumi.Input[str]] | None = None
    """Labels of the pods that each metric gets."""
    relabelings: Sequence[Mapping[str, pulumi.Input[Any]]] | None = None
    """Rules for each metric, as the operator writes them."""


@dataclass(kw_only=True)
class MetricsArgs:
    """The metrics of the scheduler and of each worker, for Prometheus."""

    port: pulumi.Input[int] | None = None
    """Port; of several processes in a member, each has the next. Default: `9180`."""
    namespaces: Sequence[pulumi.Input[str]] | None = None
    """Namespaces whose pods may reach the port; the cluster's own when none is given."""
    monitor: MonitorArgs | Mapping[str, Any] | None = None
    """PodMonitors for the Prometheus operator; none when it is not given."""


@dataclass(kw_only=True)
class ServiceArgs:
    """How a service is reached from outside its pods."""

    type: pulumi.Input[Literal["ClusterIP", "NodePort", "LoadBalancer"]] | None = None
    """Type of the Service. Other types than ClusterIP open its port to the network, where TLS
    and the token are what protects it. Default: `ClusterIP`."""
    annotations: Mapping[str, pulumi.Input[str]] | None = None
    """Annotations of the Service."""
    source_ranges: Sequence[pulumi.Input[str]] | None = None
    """Networks from which a load balancer takes connections."""


@dataclass(kw_only=True)
class SchedulerIngressArgs:
    """An Ingress for the scheduler: its controller passes TLS through, by the host's name alone."""

    host: pulumi.Input[str]
    """Host name; it stands in the scheduler's certificate."""
    port: pulumi.Input[int] | None = None
    """Port at which the controller is reached. Default: `443`."""
    class_name: pulumi.Input[str] | None = None
    """Ingress class."""
    annotations: Mapping[str, pulumi.Input[str]] | None = None
    """Annotations; controllers must be told by one that they pass TLS through."""


@dataclass(kw_only=True)
class SchedulerPodArgs(PodArgs):
    """The scheduler's pod."""

    service: ServiceArgs | Mapping[str, Any] | None = None
    """How the scheduler is reached."""
    ingress: SchedulerIngressArgs | Mapping[str, Any] | None = None
    """An Ingress for clients from outside; none when it is not given."""
    evictable: pulumi.Input[bool] | None = None
    """Whether a node drain may evict it; all running work is lost when it goes. Default:
    `False`."""


@dataclass(kw_only=True)
class GroupPodArgs(PodArgs):
    """The pods of a worker group."""

    max_surge: pulumi.Input[int] | None = None
    """Members that a rolling change may start beyond the size of the group. Default: `1`."""
    max_unavailable: pulumi.Input[int] | None = None
    """Members that a rolling change may stop before others run. Default: `0`."""
    evictable: pulumi.Input[int] | None = None
    """Members that a node drain may evict at the same time; each drains first. Default: `1`."""
    scratch: pulumi.Input[str] | None = None
    """Disk that a member may use to spill; unlimited when it is not given."""


@dataclass(kw_only=True)
class IngressArgs:
    """An Ingress for JupyterLab, whose own port is HTTPS."""

    host: pulumi.Input[str]
    """Host name."""
    class_name: pulumi.Input[str] | None = None
    """Ingress class."""
    tls_secret: pulumi.Input[str] | None = None
    """Secret with the certificate of the host name."""
    annotations: Mapping[str, pulumi.Input[str]] | None = None
    """Annotations; most controllers need one that says that the backend is HTTPS."""


@dataclass(kw_only=True)
class StorageArgs:
    """A volume for notebooks that outlives the pod."""

    size: pulumi.Input[str] | None = None
    """Size of the claim. Default: `10Gi`."""
    storage_class: pulumi.Input[str] | None = None
    """Storage class; the cluster's own when it is not given."""
    claim: pulumi.Input[str] | None = None
    """A claim that exists already, in the place of one that is made."""


@dataclass(kw_only=True)
class JupyterPodArgs(PodArgs):
    """JupyterLab's pod."""

    service: ServiceArgs | Mapping[str, Any] | None = None
    """How JupyterLab is reached."""
    ingress: IngressArgs | Mapping[str, Any] | None = None
    """An Ingress; none when it is not given."""
    storage: StorageArgs | Mapping[str, Any] | None = None
    """Where notebooks and the home folder stay; gone with the pod when it is not given."""
    evictable: pulumi.Input[bool] | None = None
    """Whether a node drain may evict it; kernels and what they hold are lost when it goes.
    Default: `False`."""


@dataclass(kw_only=True)
class KubernetesOptionsArgs(PodArgs):
    """A Kubernetes cluster; what stands here holds for every pod."""

    image: pulumi.Input[str] = field()
    """Container image of every service that has none of its own."""
    namespace: pulumi.Input[str] | None = None
    """Namespace; it must exist. Default: `default`."""
    user: pulumi.Input[int] | None = None
    """Number of the user and the group that run every container. Default: `10001`."""
    network: NetworkArgs | Mapping[str, Any] | None = None
    """What the network policies allow."""
    metrics: MetricsArgs | Mapping[str, Any] | None = None
    """The metrics, for Prometheus; they are not served when it is not given."""
    scheduler: SchedulerPodArgs | Mapping[str, Any] | None = None
    """What holds for the scheduler's pod alone."""
    workers: Mapping[str, GroupPodArgs | Mapping[str, Any]] | None = None
    """What holds for the pods of one group, by its name."""
    jupyter: JupyterPodArgs | Mapping[str, Any] | None = None
    """What holds for JupyterLab's pod alone."""
    scaler: PodArgs | Mapping[str, Any] | None = None
    """What holds for the scaler's pod alone."""


@dataclass(kw_only=True)
class KubernetesClusterArgs(ClusterArgs):
    """A standing Dask cluster, described once."""

    kubernetes: KubernetesOptionsArgs | Mapping[str, Any]
