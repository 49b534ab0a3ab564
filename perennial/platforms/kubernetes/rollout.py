"""Pods that `up` waits for: what can never be ready, so that nobody waits for it in vain.

A cluster without a free node may get one, a registry that fails may answer again. So each kind of
trouble has to last for a while, and it counts in the new version of a part alone: pods of the
version before go by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from perennial.platforms.kubernetes import names, troubles
from perennial.platforms.kubernetes.client import Api, ApiError, labelled
from perennial.platforms.kubernetes.comparing import differences
from perennial.platforms.kubernetes.fleet import owners
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.troubles import Kind, Logs, Trouble

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec

#: Seconds that each kind of trouble has to last. An image is tried again after 10 s and 20 s; an
#: autoscaler announces a node in less than a minute.
LASTS: Mapping[Kind, float] = {
    "image": 25.0,
    "refused": 25.0,
    "crash": 0.0,
    "other": 60.0,
    "node": 120.0,
}
#: Starts of a container after which its crashes are no accident.
STARTS = 3
#: Seconds that the other parts have to be ready, once one can never be.
OTHERS = 20.0
#: What an autoscaler says of a pod for which it starts a node.
ANNOUNCED = frozenset({"TriggeredScaleUp", "Nominated"})
#: Which of the versions of a Deployment a ReplicaSet is.
_REVISION = "deployment.kubernetes.io/revision"
#: Changing it has the controllers try again at once.
TRIED = f"{names.OURS}/tried-at"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the cluster, as far as it is what the cluster file says."""

    key: str
    deployment: Any
    #: Pods of this version.
    pods: Sequence[Any] = ()

    @property
    def is_ready(self) -> bool:
        """Whether all of its pods are there and ready."""
        status, size = self.deployment.status, int(self.deployment.spec.replicas or 0)
        counts = (status.updated_replicas, status.available_replicas, status.replicas)
        return all((count or 0) == size for count in counts)


@dataclass(slots=True)
class Waiting:
    """Troubles that were seen, and since when."""

    cluster: str
    #: By what has the trouble and by its kind.
    since: dict[tuple[str, Kind], float] = field(default_factory=dict)
    #: Since when there is one that will not pass.
    lost: float | None = None

    def lines(
        self, parts: Sequence[Part], logs: Logs, announced: Any, now: float
    ) -> tuple[list[str], bool]:
        """Return a line for each part that can never be ready, and whether to stop waiting."""
        found: dict[str, str] = {}
        scheduler = any(part.key == "scheduler" and part.is_ready for part in parts)
        seen: dict[tuple[str, Kind], float] = {}
        for part in parts:
            for name, trouble in _troubles(part, logs):
                what = (name, trouble.kind)
                seen[what] = self.since.get(what, now)
                lasts = 0.0 if trouble.final else LASTS[trouble.kind]
                if trouble.kind == "crash" and not (scheduler or part.key == "scheduler"):
                    continue  # without a scheduler nothing else can stay
                if now - seen[what] < lasts or (trouble.kind == "node" and announced(name)):
                    continue
                found.setdefault(part.key, f"{self.cluster}: {part.key}: {trouble.text}")
        self.since = seen
        if not found:
            self.lost = None
        elif self.lost is None:
            self.lost = now
        waits = [part for part in parts if not part.is_ready and part.key not in found]
        over = self.lost is not None and (not waits or now - self.lost >= OTHERS)
        return [*found.values()], over


def _troubles(part: Part, logs: Logs) -> Iterator[tuple[str, Trouble]]:
    refused = troubles.of_deployment(part.deployment)
    if refused is not None:
        yield str(part.deployment.metadata.name), refused
    for pod in part.pods:
        found = troubles.of_pod(logs, pod) if pod.metadata.deletion_timestamp is None else None
        if found is not None and (found.kind != "crash" or troubles.restarts(pod) >= STARTS):
            yield str(pod.metadata.name), found


class Running(Logs, Protocol):
    """The cluster that is deployed."""

    @property
    def api(self) -> Api:
        """Its API server."""


class Rollout:
    """A deployment that is under way."""

    def __init__(self, spec: ClusterSpec, running: Running) -> None:
        self.running = running
        self.cluster, self.namespace = spec.name, str(spec.options.namespace)
        self.wanted = {
            key: each
            for key, objects in manifests(spec).items()
            for each in objects
            if each["kind"] == "Deployment"
        }
        self.waiting = Waiting(spec.name)

    def hopeless(self) -> list[str]:
        """Say what can never be ready, a line each; empty as long as waiting may help."""
        parts = list(self._parts())
        lines, over = self.waiting.lines(parts, self.running, self._announced, monotonic())
        return lines if over else []

    def retry(self) -> None:
        """Have Kubernetes try at once what has failed before: it waits longer each time.

        Nothing that runs is touched; what may not be done is left to time.
        """
        api, now = self.running.api, datetime.now(UTC).isoformat()
        for part in self._parts():
            with suppress(ApiError):
                if troubles.of_deployment(part.deployment):
                    name = part.deployment.metadata.name
                    patch = api.apps.patch_namespaced_deployment
                    stamp = {"metadata": {"annotations": {TRIED: now}}}
                    api.call(f"touch {name}", patch, name, self.namespace, stamp)
                for pod in part.pods:
                    found = troubles.of_pod(self.running, pod)
                    if found is not None and found.kind == "image":
                        name, delete = pod.metadata.name, api.core.delete_namespaced_pod
                        api.call(f"delete {name}", delete, name, self.namespace)

    def _parts(self) -> Iterator[Part]:
        """Yield what is there as the cluster file says, with the pods of that version."""
        api = self.running.api
        deployments = self._list("the Deployments", api.apps.list_namespaced_deployment)
        sets = self._list("the ReplicaSets", api.apps.list_namespaced_replica_set)
        pods = self._list("the pods", api.core.list_namespaced_pod)
        by_name = {each.metadata.name: each for each in deployments}
        plain = api.core.api_client.sanitize_for_serialization
        for key, wanted in self.wanted.items():
            found = by_name.get(wanted["metadata"]["name"])
            own = {each: wanted[each] for each in ("metadata", "spec")}  # a list names no kinds
            if found is None or any(differences(own, plain(found))):
                continue  # still to be made, or changed
            if (found.status.observed_generation or 0) < found.metadata.generation:
                continue
            newest = {each.metadata.uid for each in sets if _is_of(each, found)}
            yield Part(key, found, [pod for pod in pods if newest & owners(pod)])

    def _announced(self, pod: str) -> bool:
        """Whether a node is on its way for a pod; also where nobody may look."""
        read = self.running.api.core.list_namespaced_event
        about = f"involvedObject.name={pod}"
        try:
            what = "list its events"
            listed = self.running.api.call(what, read, self.namespace, field_selector=about)
        except ApiError:
            return True
        return any(each.reason in ANNOUNCED for each in listed.items)

    def _list(self, what: str, read: Any) -> list[Any]:
        labels = {"app.kubernetes.io/instance": self.cluster}
        chosen = labelled({**labels, "app.kubernetes.io/managed-by": names.OURS})
        listed = self.running.api.call(
            f"list {what} of {self.cluster}", read, self.namespace, label_selector=chosen
        )
        return list(listed.items)


def _is_of(made: Any, deployment: Any) -> bool:
    """Whether a ReplicaSet is the newest of a Deployment."""
    numbers = [(each.metadata.annotations or {}).get(_REVISION) for each in (made, deployment)]
    return deployment.metadata.uid in owners(made) and numbers[0] == numbers[1]
