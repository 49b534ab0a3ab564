"""A Kubernetes cluster, rendered as plain manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from perennial.platforms.kubernetes.fields import (
    Image,
    Interval,
    Key,
    LabelValue,
    Namespace,
    ObjectName,
    Quantity,
)
from perennial.platforms.kubernetes.merging import Manifest
from perennial.spec.options import PlatformOptions
from perennial.spec.ports import PortUse
from perennial.spec.strict import Model
from perennial.spec.units import Refusal, refuse

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec

#: What all pods share, and no group can be called.
PRELOADS = "preloads"


class Resources(Model):
    """Resources of a pod, beside those that the cluster file says."""

    requests: dict[Key, Quantity] = Field(default_factory=dict, examples=[{"cpu": "500m"}])
    """What a node must have free for the pod."""

    limits: dict[Key, Quantity] = Field(default_factory=dict, examples=[{"nvidia.com/gpu": "1"}])
    """What the pod may use."""


class Pod(Model):
    """What can be said of pods: of all, of a service, or of a group.

    What stands for a service or a group is laid over that of the cluster: mappings are merged,
    lists are joined.
    """

    image: Image | None = None
    """Container image with distributed 2026.6 or newer; JupyterLab's has JupyterLab as well, and
    the scaler's this package and the client kubernetes."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled; Kubernetes' own choice when it is not given."""

    image_pull_secrets: list[ObjectName] = Field(
        default_factory=list, title="names of Secrets", examples=[["registry"]]
    )
    """Secrets with which the image is pulled."""

    service_account: ObjectName | None = None
    """Service account; one without any right is made when it is not given."""

    resources: Resources = Field(default_factory=Resources)
    """Resources, beside the memory and the threads that the cluster file says."""

    node_selector: dict[Key, LabelValue] = Field(
        default_factory=dict, examples=[{"example.org/pool": "gpu"}]
    )
    """Labels that a node must have."""

    tolerations: list[Manifest] = Field(
        default_factory=list,
        title="tolerations",
        examples=[[{"key": "example.org/dask", "operator": "Exists", "effect": "NoSchedule"}]],
    )
    """Taints of nodes that are accepted, as Kubernetes writes them."""

    affinity: Manifest = Field(default_factory=dict, examples=[{"nodeAffinity": {}}])
    """Affinity, as Kubernetes writes it."""

    spread: list[Manifest] = Field(
        default_factory=list,
        title="constraints",
        examples=[[{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1}]],
    )
    """Topology spread constraints; the label selector is added where it is missing, and
    `ScheduleAnyway` for those that cannot be met."""

    priority_class: ObjectName | None = None
    """Priority class."""

    labels: dict[Key, LabelValue] = Field(default_factory=dict, examples=[{"team": "physics"}])
    """More labels of the pods."""

    annotations: dict[Key, str] = Field(default_factory=dict, examples=[{"team": "physics"}])
    """More annotations of the pods."""

    volumes: list[Manifest] = Field(
        default_factory=list,
        title="volumes",
        examples=[[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]],
    )
    """More volumes, as Kubernetes writes them."""

    volume_mounts: list[Manifest] = Field(
        default_factory=list, title="mounts", examples=[[{"name": "data", "mountPath": "/data"}]]
    )
    """Where the container has them."""

    extra_pod_spec: Manifest = Field(default_factory=dict, examples=[{"hostAliases": []}])
    """Anything else of a pod's specification, as Kubernetes writes it; merged strategically over
    what is made here, and `null` removes a key. `perennial check` warns of what the Pod Security
    level Restricted would refuse."""


class Service(Model):
    """How a service is reached from outside its pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service. Other types than ClusterIP open its port to the network, where TLS and
    the token are what protects it."""

    annotations: dict[Key, str] = Field(
        default_factory=dict, examples=[{"example.org/internal": "true"}]
    )
    """Annotations of the Service."""

    source_ranges: list[str] = Field(
        default_factory=list, title="networks", examples=[["192.0.2.0/24"]]
    )
    """Networks from which a load balancer takes connections."""


class Ingress(Model):
    """An Ingress for JupyterLab, whose own port is HTTPS."""

    host: ObjectName = Field(examples=["jupyter.example.org"])
    """Host name."""

    class_name: ObjectName | None = None
    """Ingress class."""

    tls_secret: ObjectName | None = None
    """Secret with the certificate of the host name."""

    annotations: dict[Key, str] = Field(
        default_factory=dict,
        examples=[{"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"}],
    )
    """Annotations; most controllers need one that says that the backend is HTTPS."""


class SchedulerIngress(Model):
    """An Ingress for the scheduler: its controller passes TLS through, by the host's name alone."""

    host: ObjectName = Field(examples=["dask.example.org"])
    """Host name; it stands in the scheduler's certificate."""

    port: int = Field(default=443, ge=1, le=65_535)
    """Port at which the controller is reached."""

    class_name: ObjectName | None = None
    """Ingress class."""

    annotations: dict[Key, str] = Field(
        default_factory=dict,
        examples=[{"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}],
    )
    """Annotations; controllers must be told by one that they pass TLS through."""


class Storage(Model):
    """A volume for notebooks that outlives the pod."""

    size: Quantity = "10Gi"
    """Size of the claim."""

    storage_class: ObjectName | None = None
    """Storage class; the cluster's own when it is not given."""

    claim: ObjectName | None = None
    """A claim that exists already, in the place of one that is made."""


class SchedulerPod(Pod):
    """The scheduler's pod."""

    service: Service = Field(default_factory=Service)
    """How the scheduler is reached."""

    ingress: SchedulerIngress | None = None
    """An Ingress for clients from outside; none when it is not given."""

    evictable: bool = False
    """Whether a node drain may evict it; all running work is lost when it goes."""


class JupyterPod(Pod):
    """JupyterLab's pod."""

    service: Service = Field(default_factory=Service)
    """How JupyterLab is reached."""

    ingress: Ingress | None = None
    """An Ingress; none when it is not given."""

    storage: Storage | None = None
    """Where notebooks and the home folder stay; gone with the pod when it is not given."""

    evictable: bool = False
    """Whether a node drain may evict it; kernels and what they hold are lost when it goes."""


class GroupPod(Pod):
    """The pods of a worker group."""

    max_surge: int = Field(default=1, ge=0, le=100_000)
    """Members that a rolling change may start beyond the size of the group."""

    max_unavailable: int = Field(default=0, ge=0, le=100_000)
    """Members that a rolling change may stop before others run."""

    evictable: int = Field(default=1, ge=1, le=100_000)
    """Members that a node drain may evict at the same time; each drains first."""

    scratch: Quantity | None = None
    """Disk that a member may use to spill; unlimited when it is not given."""

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.max_surge == 0 and self.max_unavailable == 0:
            raise refuse("1 or more where max_surge is 0", "raise one of them", "max_unavailable")
        return self


class Network(Model):
    """What the network policies allow; they hold where the cluster's network enforces them."""

    policies: bool = True
    """Whether there are any. Without them every pod reaches the scheduler, where TLS is what
    protects it, and tasks reach the cloud's metadata service."""

    client_namespaces: list[Namespace] = Field(
        default_factory=list, title="names of namespaces", examples=[["notebooks"]]
    )
    """Other namespaces whose pods may reach the scheduler, with the label of its clients."""

    metadata: bool = False
    """Whether tasks and notebooks may reach the cloud's metadata service, which gives away the
    node's own rights."""


class Monitor(Model):
    """PodMonitors for the Prometheus operator: one of the scheduler, and one of each group."""

    interval: Interval = "30s"
    """How often the metrics are read."""

    labels: dict[Key, LabelValue] = Field(
        default_factory=dict, examples=[{"release": "prometheus"}]
    )
    """Labels by which a Prometheus chooses its monitors."""

    job_label: Key | None = None
    """Label of the pods that names the job."""

    target_labels: list[Key] = Field(
        default_factory=list, title="labels", examples=[["app.kubernetes.io/instance"]]
    )
    """Labels of the pods that each metric gets."""

    relabelings: list[Manifest] = Field(
        default_factory=list,
        title="rules",
        examples=[[{"action": "drop", "regex": "python_gc_.*", "sourceLabels": ["__name__"]}]],
    )
    """Rules for each metric, as the operator writes them."""


class Metrics(Model):
    """The metrics of the scheduler and of each worker, for Prometheus.

    They are served by TLS on a port of their own, to whoever sends the token in the Secret
    `<name>-metrics-secret`. Images need the package prometheus-client.
    """

    port: int = Field(default=9180, ge=1024, le=65_000)
    """Port; of several processes in a member, each has the next."""

    namespaces: list[Namespace] = Field(
        default_factory=list, title="names of namespaces", examples=[["monitoring"]]
    )
    """Namespaces whose pods may reach the port; the cluster's own when none is given."""

    monitor: Monitor | None = None
    """PodMonitors for the Prometheus operator; none when it is not given."""


class Options(PlatformOptions, Pod):
    """A Kubernetes cluster; what stands here holds for every pod."""

    image: Image = Field(examples=["registry.example.org/dask:2026.8.0"])
    """Container image of every service that has none of its own."""

    namespace: Namespace = "default"
    """Namespace; it must exist."""

    user: int = Field(default=10001, ge=1, le=2**31 - 1)
    """Number of the user and the group that run every container."""

    network: Network = Field(default_factory=Network)
    """What the network policies allow."""

    metrics: Metrics | None = None
    """The metrics, for Prometheus; they are not served when it is not given."""

    scheduler: SchedulerPod = Field(default_factory=SchedulerPod)
    """What holds for the scheduler's pod alone."""

    workers: dict[str, GroupPod] = Field(
        default_factory=dict, examples=[{"gpu": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}]
    )
    """What holds for the pods of one group, by its name."""

    jupyter: JupyterPod = Field(default_factory=JupyterPod)
    """What holds for JupyterLab's pod alone."""

    scaler: Pod = Field(default_factory=Pod)
    """What holds for the scaler's pod alone."""

    def group(self, name: str) -> GroupPod:
        """Return what holds for a group."""
        return self.workers.get(name, GroupPod())

    def port_uses(self, spec: ClusterSpec) -> Iterator[PortUse]:
        """Say that each service has a network of its own."""
        for service in dict.fromkeys(path.partition(".")[0] for path in spec.ports()):
            yield PortUse(frozenset({service}), {})
        for name in spec.workers:
            yield PortUse(frozenset(), {name: 1})

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what a pod cannot have."""
        if spec.environment.requirements is not None:
            yield Refusal(
                "an image with its packages on the platform kubernetes",
                "put them into the image",
                ("environment", "requirements"),
            )
        if spec.jupyter is not None and spec.jupyter.certificate is not None:
            yield Refusal(
                "the cluster's own certificate on the platform kubernetes",
                "remove certificate and key; an Ingress can have its own: ingress.tls_secret",
                ("jupyter", "certificate"),
            )
        if spec.security.open_dashboard:
            yield Refusal(
                "false on the platform kubernetes",
                "forward the dashboard's port with `kubectl port-forward`",
                ("security", "open_dashboard"),
            )
        if self.scheduler.ingress is not None and not spec.security.tls:
            yield Refusal(
                "an Ingress with TLS, by which its controller tells hosts apart",
                "set security.tls to true",
                ("kubernetes", "scheduler", "ingress"),
            )
        if spec.umask != "077":
            yield Refusal('"077" on the platform kubernetes', "remove it", ("umask",))
        if PRELOADS in spec.workers:
            taken = f"group names other than {PRELOADS} on the platform kubernetes"
            yield Refusal(taken, "rename the group", ("workers", PRELOADS), key=True)
        for name in self.workers:
            if name not in spec.workers:
                yield Refusal(
                    f"names of groups: {', '.join(spec.workers)}",
                    "correct the name",
                    ("kubernetes", "workers", name),
                    key=True,
                )
