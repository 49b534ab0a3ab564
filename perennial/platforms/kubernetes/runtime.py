"""A cluster on Kubernetes that runs, as the command line asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perennial import contracts
from perennial.contracts import Glance, LogLine, Lost, Resized, Say, ServiceStatus, Status
from perennial.errors import PerennialError
from perennial.pages import ROSTER, counts_of, socket_of
from perennial.paths import cluster_state
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.client import Api, ApiError, is_ready, labelled
from perennial.platforms.kubernetes.parts import RUN, Part, parts, site
from perennial.services import scheduler_address
from perennial.stacked import deployed

if TYPE_CHECKING:
    from perennial.pages import Counts
    from perennial.spec import ClusterSpec

_RENEWED = (
    "{name}: `perennial up` renews what ends within 30 days, and so does, where kubectl has made"
    " the cluster, `python -m perennial.platforms.kubernetes.secrets`"
)

#: What kubectl itself sets, so that a Deployment replaces its pods one after another.
RESTARTED = f"{names.OURS}/restarted-at"


class KubernetesRuntime(contracts.Runtime):
    """Pods of a cluster, as the API server sees them."""

    cannot: ClassVar = {
        "rotate": _RENEWED,
        "rotate_authority": "{name}: no new authority for a cluster that stands on kubernetes yet",
        "issue": "{name}: no certificates for single people on kubernetes yet",
        "revoke": "{name}: no certificates for single people on kubernetes yet",
        "jupyter": "{name}: `kubectl port-forward` reaches JupyterLab; see README.txt of"
        " `perennial render`",
        "dashboard": "{name}: `kubectl port-forward` reaches the dashboard; see README.txt of"
        " `perennial render`",
        "checks": "{name}: no checks on kubernetes yet; `perennial status` and `kubectl describe`"
        " show what its pods wait for",
        "enable": "{name}: Kubernetes starts its pods by itself",
        "disable": "{name}: Kubernetes keeps its pods running until `perennial down`",
        "supervisor": "{name}: --wait is for the platform local, found kubernetes",
    }

    @cached_property
    def _spec(self) -> ClusterSpec:
        return deployed(cluster_state(self.name))

    @cached_property
    def _api(self) -> Api:
        return Api()

    def glance(self) -> Glance:
        """Ask whether the scheduler's pod is ready."""
        ready = any(is_ready(pod) for pod in self._pods("scheduler"))
        return Glance(ready, scheduler_address(self._spec, site(self._spec)))

    def status(self) -> Status:
        """Look at every pod, and ask the scheduler for its numbers."""
        pods = self._pods(None)
        rows = [_row(pod) for pod in pods]
        sizes = dict.fromkeys(self._spec.workers, 0)
        for pod in pods:
            part = pod.metadata.labels[names.PART]
            if part in sizes and pod.metadata.deletion_timestamp is None:
                sizes[part] += 1
        return Status(None, sizes, rows, self.counts())

    def counts(self) -> Counts | None:
        """Ask in the scheduler's pod: nobody else reaches its pages."""
        ready = [pod for pod in self._pods("scheduler") if is_ready(pod)]
        if not ready:
            return None
        python = self._spec.environment.python or "python"
        asked = (socket_of(f"{RUN}/pages"), "/json/counts.json", ROSTER)
        command = [python, "-P", "-m", "perennial.platforms.kubernetes.page", *asked]
        try:
            pages = json.loads(self._api.run(ready[0].metadata.name, self._namespace, command))
            return counts_of(*pages)
        except (ApiError, ValueError, TypeError):
            return None

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Read the logs of pods; one alone can be followed."""
        pods = self._named(service)
        if follow and len(pods) > 1:
            raise PerennialError(
                f"{self.name}: found {len(pods)} pods to follow; name one of"
                f" {', '.join(pod.metadata.name for pod in pods)}"
            )
        for pod in pods:
            name = pod.metadata.name
            read = self._api.core.read_namespaced_pod_log
            where = (name, self._namespace)
            if follow:
                from kubernetes import watch

                for line in watch.Watch().stream(read, *where, tail_lines=lines):
                    yield LogLine(name, str(line))
                continue
            text = self._api.call(f"read the log of {name}", read, *where, tail_lines=lines)
            for line in text.splitlines():
                yield LogLine(name, line)

    def restart(self, service: str, say: Say, _lost: Lost) -> int:
        """Have a Deployment replace its pods, one after another and drained; does not wait."""
        part = self._part(service)
        stamp = {RESTARTED: datetime.now(UTC).isoformat(timespec="seconds")}
        body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        say(f"restarting the Deployment {part.name}")
        patch = self._api.apps.patch_namespaced_deployment
        self._api.call(f"restart {part.name}", patch, part.name, self._namespace, body)
        return len(self._pods(part.key))

    def scale(
        self, wanted: Mapping[str, int], _force: bool, say: Say, _lost: Lost
    ) -> Mapping[str, Resized]:
        """Size Deployments; each pod that goes drains, and nobody waits for it."""
        sized = {}
        for group, size in wanted.items():
            part = self._part(group)
            say(f"sizing the Deployment {part.name}")
            sized[group] = Resized(resize(self._api, part.name, self._namespace, size), size)
        return sized

    def waits(self) -> Iterator[str]:
        """Say what keeps each part from being ready, one line each."""
        read = self._api.apps.read_namespaced_deployment
        for part in parts(self._spec):
            what = f"read the Deployment {part.name}"
            found = self._api.call(what, read, part.name, self._namespace)
            pods = [pod for pod in self._pods(part.key) if not is_ready(pod)]
            why = _refused(found) or next(filter(None, map(_waits, pods)), "")
            if why:
                yield f"{self.name}: {part.key} waits: {' '.join(why.split())}"

    # Inside

    @property
    def _namespace(self) -> str:
        return str(self._spec.options.namespace)

    def _part(self, key: str) -> Part:
        every = {part.key: part for part in parts(self._spec)}
        if key not in every:
            raise PerennialError(
                f"{self.name} has no service or group {key!r}; it has {', '.join(every)}"
            )
        return every[key]

    def _named(self, word: str | None) -> list[Any]:
        pods = self._pods(None)
        if word is None:
            return pods
        chosen = [
            pod for pod in pods if word in (pod.metadata.name, pod.metadata.labels.get(names.PART))
        ]
        if not chosen:
            self._part(word)
        return chosen

    def _pods(self, part: str | None) -> list[Any]:
        wanted: Mapping[str, str] = {"app.kubernetes.io/instance": self.name}
        chosen = wanted if part is None else names.selector(self.name, part)
        listed = self._api.call(
            f"list the pods of {self.name}",
            self._api.core.list_namespaced_pod,
            self._namespace,
            label_selector=labelled({**chosen, "app.kubernetes.io/managed-by": names.OURS}),
        )
        return list(listed.items)


def stop(spec: ClusterSpec, key: str) -> None:
    """Stop the pods of a part; its Deployment stays."""
    part = next(part for part in parts(spec) if part.key == key)
    resize(Api(), part.name, spec.options.namespace, 0)


def resize(api: Api, deployment: str, namespace: str, size: int) -> int:
    """Give a Deployment a size; return the one before."""
    what, where = f"scale {deployment}", (deployment, namespace)
    before = api.call(what, api.apps.read_namespaced_deployment_scale, *where)
    patch = api.apps.patch_namespaced_deployment_scale
    api.call(what, patch, *where, {"spec": {"replicas": size}})
    return int(before.spec.replicas or 0)


def _row(pod: Any) -> ServiceStatus:
    """Describe a pod; what it waits for stands in its containers or its conditions."""
    containers = pod.status.container_statuses or ()
    started = pod.status.start_time
    state = "STOPPING" if pod.metadata.deletion_timestamp else str(pod.status.phase).upper()
    if state == "RUNNING" and not is_ready(pod):
        state = "STARTING"
    return ServiceStatus(
        pod.metadata.name,
        pod.spec.node_name,
        state,
        uptime=(datetime.now(UTC) - started).total_seconds() if started else 0.0,
        restarts=sum(each.restart_count for each in containers),
        note=_waits(pod) or None,
    )


def _refused(deployment: Any) -> str:
    """Say why it gets no pods, such as a quota; empty where it does."""
    for each in deployment.status.conditions or ():
        if each.type == "ReplicaFailure" and each.status == "True":
            return str(each.message)
    return ""


def _waits(pod: Any) -> str:
    for each in pod.status.container_statuses or ():
        waiting = each.state.waiting if each.state else None
        if waiting is not None and waiting.reason not in (None, "ContainerCreating"):
            return f"{waiting.reason}: {waiting.message or 'see `kubectl describe pod`'}"
    for each in pod.status.conditions or ():
        if each.type == "PodScheduled" and each.status == "False":
            return str(each.message or each.reason)
    return ""
