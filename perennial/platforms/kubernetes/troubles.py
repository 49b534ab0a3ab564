"""What keeps a pod from running, or a Deployment from getting pods: one line that says what to do.

Who calls it decides how long a trouble may last: some of them pass by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["node", "image", "crash", "refused", "other"]

#: Lines of a log in which the useful one is looked for.
LAST = 20
_SEE = "see `kubectl describe`"
#: Words of Kubernetes' for a container that is started again and again, and for an image that
#: cannot be had: of the last ones no attempt is made, or every attempt fails alike.
LOOPS = frozenset({"CrashLoopBackOff", "Error"})
PULLS = frozenset({"ImagePullBackOff", "ErrImagePull"})
NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})
#: No node takes the pod; the start of its service has said what its image lacks.
UNPLACED, UNSTARTED = "Unschedulable", "Unstarted"
#: Why a container waits that needs nothing but time.
_ON_ITS_WAY = (None, "", "ContainerCreating", "PodInitializing")


class Logs(Protocol):
    """Where the log of a pod is read, see `perennial.platforms.kubernetes.runtime`."""

    def last_words(self, pod: str, container: str, lines: int) -> str:
        """Return the last useful line of a pod's that ended."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, and what to do."""

    kind: Kind
    text: str
    #: Whether it does not pass however long one waits.
    final: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a pod from running, in Kubernetes' own words."""

    #: `UNPLACED`, `UNSTARTED`, or why its container waits.
    reason: str
    message: str
    #: Status of that container.
    container: Any = None

    @property
    def note(self) -> str:
        """Write it for a list of pods."""
        if self.reason in (UNPLACED, UNSTARTED):
            return self.message
        return f"{self.reason}: {self.message or 'see `kubectl describe pod`'}"


def of_deployment(deployment: Any) -> Trouble | None:
    """Say why a Deployment gets no pods, such as a quota."""
    for each in deployment.status.conditions or ():
        if each.type == "ReplicaFailure" and each.status == "True":
            said = one_line(each.message)
            remedy = "raise the quota, or lower the group's size" if "quota" in said else _SEE
            return Trouble("refused", f"gets no pods: {said}; {remedy}")
    return None


def of_pod(logs: Logs, pod: Any) -> Trouble | None:
    """Say what keeps a pod from running, and what to do."""
    found = obstacle(pod)
    if found is None:
        return None
    said = found.message or "no reason given"
    if found.reason == UNPLACED:
        remedy = "lower what it asks for, correct node_selector and tolerations, or add a node"
        return Trouble("node", f"no node takes it: {said}; {remedy}")
    if found.reason == UNSTARTED:
        return Trouble("image", said.removeprefix(f"{pod.metadata.name}: "), final=True)
    if found.reason in PULLS | NEVER:
        text = f"{found.container.image}: {said}; correct kubernetes.image or image_pull_secrets"
        return Trouble("image", text, final=found.reason in NEVER)
    if found.reason in LOOPS:
        said = _crash(logs, pod.metadata.name, found.container)
        return Trouble("crash", f"{said}; see `perennial logs {pod.metadata.name}`")
    return Trouble("other", f"{found.reason}: {said}; {_SEE}")


def obstacle(pod: Any) -> Obstacle | None:
    """Find what keeps a pod from running; None for nothing, or where its containers are made."""
    for each in pod.status.conditions or ():
        if each.type == "PodScheduled" and each.status == "False":
            return Obstacle(UNPLACED, one_line(each.message or each.reason))
    for each in pod.status.container_statuses or ():
        if said := left(pod, each):
            return Obstacle(UNSTARTED, said, each)
        waiting = each.state.waiting if each.state else None
        if waiting is not None and waiting.reason not in _ON_ITS_WAY:
            return Obstacle(str(waiting.reason), one_line(waiting.message or ""), each)
    return None


def left(pod: Any, container: Any) -> str:
    """Return what the start of a service has said of its image; empty for nothing."""
    for state in (container.state, container.last_state):
        ended = state.terminated if state else None
        if ended is not None and str(ended.message or "").startswith(f"{pod.metadata.name}: "):
            return one_line(ended.message)
    return ""


def restarts(pod: Any) -> int:
    """Count how often the containers of a pod were started again."""
    return sum(each.restart_count for each in pod.status.container_statuses or ())


def one_line(text: Any) -> str:
    """Write what Kubernetes says as a part of a line."""
    return " ".join(str(text).split()).rstrip(".")


def _crash(logs: Logs, name: str, container: Any) -> str:
    """Say why a container ends again and again, by what it has said last."""
    ended = container.last_state.terminated if container.last_state else None
    if ended is not None and ended.reason == "OOMKilled":
        return f"killed {container.restart_count} times for its memory; raise memory"
    said = logs.last_words(name, container.name, LAST)
    code = f" with exit code {ended.exit_code}" if ended is not None else ""
    return f"ended {container.restart_count} times{code}: {said or 'no output'}"
