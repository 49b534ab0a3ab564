"""The fleet of a group on Kubernetes: the pods of its Deployment.

A Deployment picks itself whose pod goes. So who leaves is marked first, by the annotation that its
ReplicaSet ranks by; then the size is lowered; and then the marked pods are deleted by name, because
a ReplicaSet puts pods that are not ready before all marks. Cut off anywhere, the marks say what was
begun, and the next call ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from perennial.errors import Busy, FleetError, FleetMissing, NoCapacity
from perennial.fleet import chosen, refusals
from perennial.observation import Member, MemberState, Observation
from perennial.platforms.kubernetes import quotas
from perennial.platforms.kubernetes.changes import Changes
from perennial.platforms.kubernetes.client import (
    CONFLICT,
    GONE,
    Api,
    ApiError,
    is_live,
    is_ready,
    labelled,
)
from perennial.platforms.kubernetes.parts import KubernetesHandle

Result = TypeVar("Result")

#: Ranks a pod among those that are ready: the lowest goes first.
COST = "controller.kubernetes.io/pod-deletion-cost"
#: Says that the pod has been told to go, also while it still runs.
LEAVING = "dask-perennial/leaving"
#: Attempts to set a size, between which the Deployment's status may change.
TRIES = 5
_MARK = {"metadata": {"annotations": {COST: "-1000", LEAVING: "true"}}}


class ConflictError(FleetError):
    """An object has changed since it was read."""


class KubernetesFleet:
    """The pods of one Deployment."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[KubernetesHandle]] = KubernetesHandle

    def __init__(
        self,
        group: str,
        namespace: str,
        deployment: str,
        fixed: bool = False,
        adopted: bool = False,
        api: Any = None,
    ) -> None:
        self.group = group
        self.namespace = namespace
        self.deployment = deployment
        #: Whether the size is that of the Deployment, and nobody else's.
        self.fixed = fixed
        #: Whether others made it: labels may not tell groups apart then, and its workers are not
        #: called as their pods.
        self.adopted = adopted
        self._api: Api | None = api
        self._changes: Changes | None = None
        self._seen: Observation | None = None

    def observe(self) -> Observation:
        """Look; see `perennial.fleet.Fleet`. What has not changed is not asked for again."""
        if self._changes is None:
            self._changes = Changes(self._lists())
        if self._seen is None or self._changes.possible:
            self._changes.looked()
            self._seen = None  # also where reading it fails
            self._seen = self._observed()
        return self._seen

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members; see `perennial.fleet.Fleet`."""
        if self._changes is not None:
            self._changes.forget()
        with refusals():
            return self._resize(to, leaving)

    # Inside

    def _observed(self) -> Observation:
        found = self._deployment()
        pods = self._pods(found)
        members = tuple(self._member(pod) for pod in pods)
        desired = int(found.spec.replicas)
        is_whole = len(pods) == desired and all(one.state == "running" for one in members)
        return Observation(
            desired=desired,
            members=members,
            settled=is_whole and not _is_rolling(found),
            least=desired if self.fixed else 0,
            most=desired if self.fixed else None,
        )

    def _lists(self) -> tuple[Callable[..., Any], ...]:
        """Say what to watch: the Deployment, and the pods that it selects."""
        api = self._connected()
        found = self._deployment()
        selector = labelled(found.spec.selector.match_labels)
        name = f"metadata.name={self.deployment}"
        return (
            partial(api.apps.list_namespaced_deployment, self.namespace, field_selector=name),
            partial(api.core.list_namespaced_pod, self.namespace, label_selector=selector),
        )

    def _resize(self, to: int, leaving: Sequence[Member]) -> int:
        found = self._deployment()
        pods = {pod.metadata.name: pod for pod in self._pods(found)}
        members = {name: self._member(pod) for name, pod in pods.items()}
        going = chosen(list(members.values()), to, {one.id for one in leaving})
        before = int(found.spec.replicas)
        staying = [
            one for one in members.values() if one.state != "leaving" and one.id not in going
        ]
        size = max(to, len(staying))
        if size == before and not going and all(_is_told(pods[name]) for name in _gone(members)):
            return size
        if found.spec.paused or _is_rolling(found):
            raise Busy(
                f"{self.group}: its Deployment {self.deployment} is being rolled out; it is"
                " sized when that has ended"
            )
        if size > before:
            size = self._within_quota(found, before, size)
        for name in going:
            self._mark(name)
        if size != before:
            self._set_size(before, size)
        for name in (*going, *_gone(members)):
            if not _is_told(pods[name]):
                self._delete(pods[name])
        return size

    def _within_quota(self, found: Any, before: int, size: int) -> int:
        """Grow as far as the namespace's quotas go, or raise where that is nowhere."""
        listed = self._call(
            "list the resource quotas",
            self._connected().core.list_namespaced_resource_quota,
            self.namespace,
        )
        room, quota = quotas.room(listed.items, found.spec.template.spec)
        if room <= 0:
            raise NoCapacity(
                f"{self.group}: the quota {quota} of the namespace {self.namespace} has no room for"
                f" more than {before} members; raise it, or lower scale.max"
            )
        return min(size, before + room)

    def _deployment(self) -> Any:
        read = self._connected().apps.read_namespaced_deployment
        return self._call("read its Deployment", read, self.deployment, self.namespace)

    def _pods(self, found: Any) -> list[Any]:
        """List the pods that count, the oldest first."""
        listed = self._call(
            "list its pods",
            self._connected().core.list_namespaced_pod,
            self.namespace,
            label_selector=labelled(found.spec.selector.match_labels),
        )
        live = [pod for pod in listed.items if is_live(pod)]
        if self.adopted:
            sets = self._replica_sets(found)
            live = [pod for pod in live if owners(pod) & sets]
        return sorted(live, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))

    def _replica_sets(self, found: Any) -> frozenset[str]:
        listed = self._call(
            "list its replica sets",
            self._connected().apps.list_namespaced_replica_set,
            self.namespace,
            label_selector=labelled(found.spec.selector.match_labels),
        )
        mine = [each for each in listed.items if found.metadata.uid in owners(each)]
        return frozenset(each.metadata.uid for each in mine)

    def _member(self, pod: Any) -> Member:
        name = pod.metadata.name
        member = Member(name, name, state_of(pod))
        return replace(member, worker=pod.status.pod_ip or name) if self.adopted else member

    def _mark(self, name: str) -> None:
        patch = self._connected().core.patch_namespaced_pod
        self._unless_gone("mark a pod", patch, name, self.namespace, _MARK)

    def _set_size(self, before: int, size: int) -> None:
        """Set the size, unless somebody else has in the meantime."""
        apps, where = self._connected().apps, (self.deployment, self.namespace)
        for _ in range(TRIES):
            scale = self._call("read the size", apps.read_namespaced_deployment_scale, *where)
            if (scale.spec.replicas or 0) != before:
                break
            change = {
                "metadata": {"resourceVersion": scale.metadata.resource_version},
                "spec": {"replicas": size},
            }
            try:
                self._call("set the size", apps.patch_namespaced_deployment_scale, *where, change)
            except ConflictError:
                continue  # also where its status alone has changed
            return
        raise Busy(f"{self.group}: somebody else sizes its Deployment {self.deployment}")

    def _delete(self, pod: Any) -> None:
        """Delete a pod, and none that has its name later."""
        delete = self._connected().core.delete_namespaced_pod
        body = {"preconditions": {"uid": pod.metadata.uid}}
        self._unless_gone("delete a pod", delete, pod.metadata.name, self.namespace, body=body)

    def _unless_gone(
        self, what: str, function: Callable[..., Any], *args: Any, **more: Any
    ) -> None:
        try:
            self._connected().call(f"{what} of {self.group}", function, *args, **more)
        except ApiError as error:
            if error.status not in (GONE, CONFLICT):
                raise FleetError(f"{self.group}: {error}") from None

    def _call(self, what: str, function: Callable[..., Result], *args: Any, **more: Any) -> Result:
        try:
            return self._connected().call(f"{what} of {self.group}", function, *args, **more)
        except ApiError as error:
            kinds = {GONE: FleetMissing, CONFLICT: ConflictError}
            raise kinds.get(error.status, FleetError)(f"{self.group}: {error}") from None

    def _connected(self) -> Api:
        if self._api is None:
            try:
                self._api = Api()
            except ApiError as error:
                raise FleetError(f"{self.group}: {error}") from None
        return self._api


def _gone(members: dict[str, Member]) -> list[str]:
    """Name those that have been told to go, by whichever call."""
    return [name for name, one in members.items() if one.state == "leaving"]


def owners(made: Any) -> set[str]:
    """Identities of what has made an object."""
    return {each.uid for each in made.metadata.owner_references or ()}


def state_of(pod: Any) -> MemberState:
    """Where a pod is in its life."""
    if (pod.metadata.annotations or {}).get(LEAVING) or _is_told(pod):
        return "leaving"
    return "running" if is_ready(pod) else "starting"


def _is_told(pod: Any) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _is_rolling(found: Any) -> bool:
    """Whether pods of two versions are there; a size that is not acted on yet is no such thing."""
    status = found.status
    seen = (status.observed_generation or 0) >= found.metadata.generation
    return bool(seen and (status.updated_replicas or 0) < (status.replicas or 0))
