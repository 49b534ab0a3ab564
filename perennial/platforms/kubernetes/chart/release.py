"""Finds a release of the chart that runs: its scheduler, its groups, and what sizes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from perennial.errors import PerennialError
from perennial.platforms.kubernetes.client import GONE, Api, ApiError, labelled
from perennial.platforms.kubernetes.quotas import quantity

#: Group of the Deployment that the chart makes of its `worker`; others are called as the chart
#: calls them.
MAIN = "worker"
#: What the chart gives a worker where nothing is said.
_MEMORY = 4 * 2**30


@dataclass(frozen=True, slots=True)
class ReleaseGroup:
    """The workers of one Deployment."""

    name: str
    deployment: str
    replicas: int
    threads: int = 1
    processes: int = 1
    #: Memory of one process, in bytes.
    memory: int = _MEMORY
    #: Whether a rolling change goes on.
    rolling: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """A release as it runs."""

    name: str
    namespace: str
    #: Where the scheduler is, and where its pages are: ``host:port``.
    scheduler: str
    http: str
    #: Labels that all its pods have.
    labels: dict[str, str]
    groups: tuple[ReleaseGroup, ...]
    #: Whether its Service is reached from outside the cluster.
    is_open: bool = False

    def group(self, name: str) -> ReleaseGroup:
        """Return a group, or say which there are."""
        for each in self.groups:
            if each.name == name:
                return each
        raise PerennialError(
            f"{self.name}: no group {name}; the release has"
            f" {', '.join(each.name for each in self.groups)}"
        )


class NoReleaseError(PerennialError):
    """There is no such release of the chart in the namespace."""


def find(api: Api, name: str, namespace: str) -> Release:
    """Find a release by the labels of the chart; raise where it cannot be adopted."""
    workers, schedulers = _deployments(api, name, namespace)
    if not schedulers:
        raise PerennialError(
            f"{name}: the release has no scheduler of its own (scheduler.enabled is false); adopt"
            " the release that has it"
        )
    for each in workers:
        _refuse(name, each)
    _refuse_scaled(api, name, namespace, {each.metadata.name for each in workers})
    found = _as_found(name, namespace, workers)
    service = _service(api, name, namespace, {**found.labels, "component": "scheduler"})
    ports = {port.name.rpartition("-")[2]: port.port for port in service.spec.ports}
    host = f"{service.metadata.name}.{namespace}.svc"
    return replace(
        found,
        scheduler=f"tcp://{host}:{ports.get('scheduler', 8786)}",
        http=f"{host}:{ports.get('webui', 80)}",
        is_open=service.spec.type != "ClusterIP",
    )


def groups_of(api: Api, name: str, namespace: str) -> Release:
    """Find a release without the addresses of its scheduler, whether it can be adopted or not."""
    workers, _ = _deployments(api, name, namespace)
    return _as_found(name, namespace, workers)


def _as_found(name: str, namespace: str, workers: Sequence[Any]) -> Release:
    labels = {"app": workers[0].metadata.labels["app"], "release": name}
    groups = tuple(_groups(workers))
    return Release(name, namespace, scheduler="", http="", labels=labels, groups=groups)


def _deployments(api: Api, name: str, namespace: str) -> tuple[list[Any], list[Any]]:
    """List the Deployments of a release: of workers and of schedulers."""
    listed = api.call(
        f"list the Deployments of {namespace}",
        api.apps.list_namespaced_deployment,
        namespace,
        label_selector="heritage=Helm,component in (worker,scheduler)",
    )
    made = [each for each in listed.items if _of_chart(each)]
    mine = [each for each in made if each.metadata.labels.get("release") == name]
    workers = [each for each in mine if each.metadata.labels["component"] == "worker"]
    if not workers:
        others = sorted({each.metadata.labels.get("release", "") for each in made})
        fix = f"found {', '.join(others)}" if others else "no release of the chart found"
        raise NoReleaseError(
            f"{name}: no release of the chart dask in the namespace {namespace}; {fix}; see"
            " `helm list --all-namespaces`"
        )
    return workers, [each for each in mine if each not in workers]


def _of_chart(deployment: Any) -> bool:
    return bool((deployment.metadata.labels or {}).get("chart", "").startswith("dask-"))


def _service(api: Api, name: str, namespace: str, selector: dict[str, str]) -> Any:
    """Find the Service by what it selects: its name can be anything."""
    listed = api.call(
        f"list the Services of {namespace}", api.core.list_namespaced_service, namespace
    )
    found = [each for each in listed.items if each.spec.selector == selector]
    if not found:
        raise PerennialError(
            f"{name}: no Service selects {labelled(selector)}, so the scheduler has no address;"
            " check the release with `helm status`"
        )
    return found[0]


def _refuse(name: str, deployment: Any) -> None:
    if deployment.spec.template.spec.host_network:
        raise PerennialError(
            f"{name}: the pods of {deployment.metadata.name} are on their node's network, so"
            " workers and pods cannot be joined by address; remove hostNetwork"
        )
    words = _words(deployment)
    if "--name" in words or any(word.startswith("--tls-") for word in words):
        raise PerennialError(
            f"{name}: the workers of {deployment.metadata.name} have --name or --tls-… in"
            " worker.extraArgs, which the scaler cannot follow; remove it"
        )


def _refuse_scaled(api: Api, name: str, namespace: str, deployments: set[str]) -> None:
    """Refuse what another scaler sizes already."""
    from kubernetes import client

    read = client.AutoscalingV2Api().list_namespaced_horizontal_pod_autoscaler
    try:
        listed = api.call(f"list the HorizontalPodAutoscalers of {namespace}", read, namespace)
    except ApiError as error:
        if error.status in (403, GONE):
            return  # nobody may look, or there are none
        raise
    for each in listed.items:
        target = each.spec.scale_target_ref
        if target.kind == "Deployment" and target.name in deployments:
            raise PerennialError(
                f"{name}: the HorizontalPodAutoscaler {each.metadata.name} sizes {target.name};"
                f" `kubectl delete hpa {each.metadata.name}` first: two autoscalers would conflict"
            )


def _groups(workers: Sequence[Any]) -> Iterator[ReleaseGroup]:
    """Name groups as the chart does: what is behind the name of the shortest Deployment."""
    named = {each.metadata.name: each for each in workers}
    main = min(named, key=lambda name: (len(name), name))
    for name, each in sorted(named.items()):
        rest = name.removeprefix(f"{main}-") if name.startswith(f"{main}-") else ""
        words = _words(each)
        limits = _limits(each)
        cores = _number(words, "--nthreads") or ceil(quantity(limits.get("cpu", "1")))
        status = each.status
        yield ReleaseGroup(
            name=rest or MAIN,
            deployment=name,
            replicas=int(each.spec.replicas if each.spec.replicas is not None else 1),
            threads=max(1, cores),
            processes=_number(words, "--nworkers") or 1,
            memory=_memory(words, limits),
            rolling=(status.updated_replicas or 0) < (status.replicas or 0),
        )


def _container(deployment: Any) -> Any:
    return deployment.spec.template.spec.containers[0]


def _words(deployment: Any) -> list[str]:
    container = _container(deployment)
    found = [*(container.command or ()), *(container.args or ())]
    return [part for word in found for part in str(word).split("=", 1)]


def _limits(deployment: Any) -> dict[str, str]:
    resources = _container(deployment).resources
    return {k: str(v) for k, v in ((resources and resources.limits) or {}).items()}


def _number(words: Sequence[str], flag: str) -> int | None:
    """Return the last number behind a flag, as the worker does."""
    found = [words[at + 1] for at, word in enumerate(words[:-1]) if word == flag]
    return int(found[-1]) if found and found[-1].isdecimal() and int(found[-1]) > 0 else None


def _memory(words: Sequence[str], limits: dict[str, str]) -> int:
    from perennial.spec.units import parse_size

    found = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--memory-limit"]
    try:
        return parse_size(f"{found[-1]}B" if found[-1][-1:] == "i" else found[-1])
    except (ValueError, IndexError):
        return int(quantity(limits["memory"])) if "memory" in limits else _MEMORY
