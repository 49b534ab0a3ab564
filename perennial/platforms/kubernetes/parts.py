"""The services of a cluster as they stand in pods: paths, names and variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from perennial.fleet import Handle
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.code import START
from perennial.platforms.kubernetes.merging import merged
from perennial.platforms.kubernetes.options import Options, Pod, Resources
from perennial.services import (
    ADDRESS,
    INSTANCE,
    Service,
    Site,
    filled,
    scheduler,
    scheduler_address,
    services,
)
from perennial.spec import ClusterSpec

#: Folders in a container: what is mounted, and what is written.
CONFIG = "/etc/dask-perennial/config"
TLS = "/etc/dask-perennial/tls"
STATE = "/var/lib/dask-perennial"
SECRETS = f"{STATE}/secrets"
SCRATCH = f"{STATE}/scratch"
SCALER = f"{STATE}/scaler"
RUN = "/run/dask-perennial"
HOME = "/home/dask"
#: Made by Dask's process once it is ready, see `perennial.preloads.ready`.
READY = f"{RUN}/ready"

#: What a container is told of its pod, for arguments: variable and field.
FIELDS = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP"}


@dataclass(frozen=True, slots=True)
class Part:
    """A service in its pods."""

    service: Service
    #: Name of its objects.
    name: str
    #: What the cluster file says of its pods.
    pod: Pod

    @property
    def key(self) -> str:
        """Name of the service, or of the group."""
        return self.service.group or self.service.name


def site(spec: ClusterSpec) -> Site:
    """Say where things are in a container."""
    options: Options = spec.options
    return Site(
        python=spec.environment.python or "python",
        config=CONFIG,
        tls=TLS,
        secrets=SECRETS,
        scratch=SCRATCH,
        address=ADDRESS,
        home=HOME,
        scheduler=scheduler_host(spec.name, options.namespace),
        jupyter_address="0.0.0.0",  # noqa: S104 - with HTTPS and a token; the policies say who
        dashboard=False,
        scaler=SCALER,
        pages=f"{RUN}/pages",
        metrics=options.metrics.port if options.metrics else 0,
        start=START,
    )


def scheduler_host(cluster: str, namespace: str) -> str:
    """Name of the scheduler's Service, whatever the domain of the cluster is."""
    return f"{names.name_of(cluster, 'scheduler')}.{namespace}.svc"


def client_address(spec: ClusterSpec) -> str:
    """Address of the scheduler for clients: that of its Ingress, else that of its Service."""
    ingress = spec.options.scheduler.ingress
    if ingress is None:
        return scheduler_address(spec, site(spec))
    return f"tls://{ingress.host}:{ingress.port}"


def parts(spec: ClusterSpec) -> tuple[Part, ...]:
    """List the services of a cluster in their pods."""
    options, place = spec.options, site(spec)
    # Forwarded ports arrive on loopback, so the scheduler listens on all addresses of its pod.
    first = scheduler(spec, replace(place, address="0.0.0.0"))  # noqa: S104
    others = services(spec, place, fleets(spec))[1:]
    own = {"scheduler": options.scheduler, "jupyter": options.jupyter, "scaler": options.scaler}
    return tuple(
        Part(
            service,
            names.name_of(spec.name, service.group or service.name),
            laid(options, options.group(service.group) if service.group else own[service.name]),
        )
        for service in (first, *others)
    )


class KubernetesHandle(Handle):
    """How a scaler reaches the pods of a group."""

    group: str
    """Its name."""
    namespace: str
    """Where its Deployment is."""
    deployment: str
    """Name of that."""
    fixed: bool
    """Whether the size is that of the Deployment, and nobody else's."""
    adopted: bool = False
    """Whether others made it: see `perennial.platforms.kubernetes.fleet`."""


def fleets(spec: ClusterSpec) -> dict[str, KubernetesHandle]:
    """Say how the scaler reaches each group."""
    return {
        group: KubernetesHandle(
            group=group,
            namespace=spec.options.namespace,
            deployment=names.name_of(spec.name, group),
            fixed=group not in spec.scaled,
        )
        for group in spec.workers
    }


def laid(below: Pod, above: Pod) -> Pod:
    """Lay what is said of one part over what is said of all."""
    fields = {key: _joined(getattr(below, key), getattr(above, key)) for key in Pod.model_fields}
    return Pod.model_construct(**fields)


def _joined(below: Any, above: Any) -> Any:
    if above is None or below is None:
        return below if above is None else above
    if isinstance(above, Resources):
        return Resources(
            requests={**below.requests, **above.requests}, limits={**below.limits, **above.limits}
        )
    if isinstance(above, Mapping):
        return merged(below, above)
    return [*below, *above] if isinstance(above, list) else above


def in_pod(service: Service) -> Service:
    """Let Kubernetes fill in what only a pod knows, and nothing else that looks like it."""

    def plain(text: str) -> str:
        return text.replace("$", "$$")

    command = service.command
    escaped = replace(
        service,
        command=replace(
            command,
            argv=tuple(map(plain, command.argv)),
            environment=tuple((name, plain(value)) for name, value in command.environment),
        ),
    )
    member = f"{service.group}-{INSTANCE}"  # a worker is called as its pod
    return filled(filled(escaped, member, "$(POD_NAME)"), ADDRESS, "$(POD_IP)")
