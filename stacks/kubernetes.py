"""A cluster on Kubernetes: what `perennial render` writes, as resources of pulumi-kubernetes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import metadata
from math import ceil
from typing import Any

import pulumi

from perennial import certificates
from perennial.errors import PerennialError
from perennial.fleet import written
from perennial.platforms.kubernetes import names, parts, secrets
from perennial.platforms.kubernetes.manifests import METRICS, manifests
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.options import PRELOADS
from perennial.services import START_TIMEOUT, scheduler_address
from perennial.spec import ClusterSpec

from .args import (
    EnvironmentArgs,
    GroupPodArgs,
    IngressArgs,
    JupyterArgs,
    JupyterPodArgs,
    KubernetesClusterArgs,
    KubernetesOptionsArgs,
    MetricsArgs,
    MonitorArgs,
    NetworkArgs,
    PodArgs,
    ResourcesArgs,
    ScaleArgs,
    SchedulerArgs,
    SchedulerIngressArgs,
    SchedulerPodArgs,
    ServiceArgs,
    StorageArgs,
    WorkerGroupArgs,
)
from .base import ClusterComponent, outputs_of
from .inputs import Inputs, resolved
from .kubernetes_planning import described, first, stop_scheduler
from .resources import Authority, Certificate

__all__ = [
    "PLUGINS",
    "VARIABLES",
    "Cluster",
    "EnvironmentArgs",
    "GroupPodArgs",
    "IngressArgs",
    "JupyterArgs",
    "JupyterPodArgs",
    "KubernetesCluster",
    "KubernetesClusterArgs",
    "KubernetesOptionsArgs",
    "MetricsArgs",
    "MonitorArgs",
    "NetworkArgs",
    "PodArgs",
    "ResourcesArgs",
    "ScaleArgs",
    "SchedulerArgs",
    "SchedulerIngressArgs",
    "SchedulerPodArgs",
    "ServiceArgs",
    "StorageArgs",
    "WorkerGroupArgs",
    "described",
    "first",
    "stop_scheduler",
]

#: Plugins that the engine needs beside our own, and where their versions come from.
PLUGINS = {"kubernetes": "pulumi-kubernetes"}
#: What they read from the environment.
VARIABLES = {
    # Pods take a changed file into use by themselves: the object is not made anew for it.
    "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE": "true",
    "PULUMI_K8S_ENABLE_SECRET_MUTABLE": "true",
    # What somebody else has changed is mended, and no conflict with them.
    "PULUMI_K8S_ENABLE_PATCH_FORCE": "true",
}
#: What is there before the pods: they would start without it, or wait for it. Of the others some
#: are ready only when the pods are.
_FIRST = ("ConfigMap", "NetworkPolicy", "Role", "RoleBinding", "ServiceAccount")
#: Seconds in which a first pod must run: a node may have to come, and pull the image.
_PULLED = 600


class KubernetesCluster(ClusterComponent):
    """A scheduler, worker groups, Jupyter and the scaler as Deployments.

    Its children are ``<name>-authority``, ``<name>-<role>-certificate``, ``<name>-<role>-secret``,
    and for each object ``<name>-<part>-<kind>``, such as ``lab-cpu-deployment``. A provider of
    pulumi-kubernetes in the options reaches all of them.

    Parameters
    ----------
    name : str
        Name of the component.
    args : KubernetesClusterArgs, mapping or ClusterSpec
        The keys of a cluster file. Names, groups, counts and which objects there are is known when
        the program runs; any other value may be an Output, such as the image or the namespace.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Without meaning here: the scheduler of Kubernetes says what there is room for.

    Raises
    ------
    pulumi.RunError
        Where the arguments are no valid cluster file; one line for each fault.
    """

    platform = "kubernetes"
    component_type = "perennial:index:KubernetesCluster"

    def deploy(self, name: str, given: Inputs, force: bool) -> dict[str, Any]:
        """Register the authority, the Secrets, and the objects of each part."""
        whole = resolved(given)
        authority = Authority(f"{name}-authority", {"cluster": given.spec.name}, opts=self.child())
        made = list(self._secrets(name, given.spec, whole, authority))
        known = _by_name(given.spec)
        objects = known if isinstance(whole, ClusterSpec) else _unknown(known, whole)
        before: dict[str, list[pulumi.Resource]] = {}
        for title in sorted(known, key=lambda title: known[title]["kind"] == "Deployment"):
            kind, part = known[title]["kind"], known[title]["metadata"]["labels"][names.PART]
            after: list[pulumi.Resource] = []
            if kind == "Deployment":
                after = [*made, *before[PRELOADS], *before.get(part, ())]
            if kind == "RoleBinding":  # an administrator alone binds a role that is to come
                after = before[part]
            own = self._options(given.spec, part, kind)
            opts = pulumi.ResourceOptions.merge(self.child(*after), own)
            registered = _registered(f"{name}-{title}", objects[title], opts)
            if kind in _FIRST:
                before.setdefault(part, []).append(registered)
        return _outputs(given.spec, whole, authority)

    def _secrets(
        self, name: str, spec: ClusterSpec, whole: Any, authority: Authority
    ) -> Iterator[pulumi.Resource]:
        """Register the certificates, and a Secret for each role that reads some."""
        wanted = secrets.contents(spec)
        files: dict[str, pulumi.Output[str]] = {
            "ca.pem": authority.ca,
            "client.pem": authority.client,
            "client-key.pem": authority.client_key,
            "jupyter-token": authority.token,
            METRICS: authority.token.apply(_derived),
        }
        for role in certificates.SERVERS:
            if any(f"{role}.pem" in each for each in wanted.values()):
                props = {
                    "ca": authority.ca,
                    "ca_key": authority.ca_key,
                    "role": role,
                    "names": _applied(whole, partial(_reached_by, role)),
                }
                made = Certificate(f"{name}-{role}-certificate", props, opts=self.child())
                files |= {f"{role}.pem": made.cert, f"{role}-key.pem": made.key}
        for title, (_, *_, last) in wanted.items():
            data = {file: _encoded(files[file]) for file in wanted[title]}
            role = last.removesuffix("-key.pem").removesuffix("-token")
            made_of: Manifest = secrets.secret(spec, title, data)
            namespace = _applied(whole, lambda spec: spec.options.namespace)
            made_of["metadata"]["namespace"] = namespace
            own = pulumi.ResourceOptions(
                version=_version(), additional_secret_outputs=["data", "stringData"]
            )
            opts = pulumi.ResourceOptions.merge(self.child(), own)
            yield _registered(f"{name}-{role}-secret", made_of, opts)

    def _options(self, spec: ClusterSpec, part: str, kind: str) -> pulumi.ResourceOptions:
        """Say what holds for an object beside what holds for all children."""
        scaled = kind == "Deployment" and part in spec.scaled
        return pulumi.ResourceOptions(
            version=_version(),
            ignore_changes=["spec.replicas"] if scaled else [],
            custom_timeouts=_times(spec, part) if kind == "Deployment" else None,
            # Notebooks outlive the cluster, as they do on machines.
            retain_on_delete=kind == "PersistentVolumeClaim",
        )


def _registered(name: str, props: Manifest, opts: pulumi.ResourceOptions) -> pulumi.Resource:
    """Register an object as pulumi-kubernetes does; its keys stay as Kubernetes writes them."""
    return pulumi.CustomResource(token(props), name, props, opts)


def token(manifest: Mapping[str, Any]) -> str:
    """Return the type of an object in pulumi-kubernetes."""
    version = manifest["apiVersion"]
    group = version if "/" in version else f"core/{version}"
    return f"kubernetes:{group}:{manifest['kind']}"


def _version() -> str:
    """Return the version of pulumi-kubernetes: the engine starts the plugin of the same."""
    try:
        return metadata.version(PLUGINS["kubernetes"])
    except metadata.PackageNotFoundError:
        raise PerennialError(
            "pulumi-kubernetes is not installed here; `pip install 'dask-perennial[kubernetes]'`"
            " brings it"
        ) from None


def _by_name(spec: ClusterSpec) -> dict[str, Manifest]:
    """List the objects of a cluster, by their names in Pulumi without that of the component."""
    return {
        f"{part}-{each['kind'].lower()}": each
        for part, objects in manifests(spec).items()
        for each in objects
    }


def _unknown(
    known: Mapping[str, Manifest], whole: pulumi.Output[ClusterSpec]
) -> dict[str, Manifest]:
    """Leave open what may depend on an Output; kinds, names and labels never do."""

    def rendered(spec: ClusterSpec) -> dict[str, Manifest]:
        found = _by_name(spec)
        if other := found.keys() ^ known.keys():
            raise pulumi.RunError(
                f"{spec.name}: whether there is a {min(other)} depends on an Output; write a plain"
                " value there"
            )
        return found

    every = whole.apply(rendered)
    return {title: _opened(title, manifest, every) for title, manifest in known.items()}


def _opened(title: str, known: Manifest, every: pulumi.Output[dict[str, Manifest]]) -> Manifest:
    fixed = {key: known[key] for key in ("apiVersion", "kind")}
    labels = {key: known["metadata"][key] for key in ("name", "labels")}
    changing = [key for key in known if key not in (*fixed, "metadata")]
    about = every.apply(lambda all_: all_[title]["metadata"])
    return {
        **fixed,
        "metadata": {
            **labels,
            "namespace": about.apply(lambda own: own["namespace"]),
            "annotations": about.apply(lambda own: own.get("annotations", {})),
        },
        **{key: every.apply(partial(_value, title, key)) for key in changing},
    }


def _value(title: str, key: str, every: Mapping[str, Manifest]) -> Any:
    return every[title][key]


def _applied(whole: Any, function: Any) -> Any:
    """Apply a function to a cluster, or to one that is to come."""
    return whole.apply(function) if isinstance(whole, pulumi.Output) else function(whole)


def _reached_by(role: str, spec: ClusterSpec) -> list[str]:
    return [*secrets.reached_by(spec, role)]


def _derived(token: str) -> str:
    """Make the token of the metrics, which does not lead back to that of JupyterLab."""
    return hashlib.sha256(f"metrics {token}".encode()).hexdigest()


def _encoded(text: pulumi.Output[str]) -> pulumi.Output[str]:
    encoded: pulumi.Output[str] = text.apply(lambda known: secrets.encoded(known.encode()))
    return pulumi.Output.secret(encoded)


def _times(spec: ClusterSpec, part: str) -> pulumi.CustomTimeouts:
    """Say how long the pods of a part may take: to start, and to go one after another, drained."""
    drains = {each.key: each.service.lifecycle.stop_timeout for each in parts.parts(spec)}
    one = START_TIMEOUT + drains[part]
    rounds = 1
    if part in spec.workers:
        group, own = spec.workers[part], spec.options.group(part)
        most = max(group.count, group.scale.max if group.scale else 0, 1)
        rounds = ceil(most / (own.max_surge + own.max_unavailable))
    return pulumi.CustomTimeouts(
        create=f"{_PULLED}s",
        update=f"{_PULLED + rounds * one:.0f}s",
        delete=f"{_PULLED + one:.0f}s",
    )


def _outputs(spec: ClusterSpec, whole: Any, authority: Authority) -> dict[str, Any]:
    def addresses(spec: ClusterSpec) -> Manifest:
        return {
            "scheduler_address": scheduler_address(spec, parts.site(spec)),
            # Only through a forwarded port, with `perennial render`'s README.
            "dashboard_url": None,
            "jupyter_url": secrets.jupyter_url(spec),
            "fleets": written(parts.fleets(spec)),
            "client_address": parts.client_address(spec),
        }

    found = pulumi.Output.from_input(_applied(whole, addresses))
    return outputs_of(spec, found, authority, found["client_address"])


#: What the registry of stacks looks for.
Cluster = KubernetesCluster
