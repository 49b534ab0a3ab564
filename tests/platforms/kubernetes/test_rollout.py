"""Which troubles of pods end an `up`, and when."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import (
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1Deployment,
    V1DeploymentCondition,
    V1DeploymentSpec,
    V1DeploymentStatus,
    V1LabelSelector,
    V1ObjectMeta,
    V1Pod,
    V1PodCondition,
    V1PodStatus,
    V1PodTemplateSpec,
)

from perennial.platforms.kubernetes import troubles
from perennial.platforms.kubernetes.rollout import LASTS, OTHERS, Part, Waiting


class Logs:
    def last_words(self, pod: str, _container: str, _lines: int) -> str:
        return f"{pod} said so"


def deployment(name: str, ready: int, refusal: str = "") -> Any:
    refused = V1DeploymentCondition(type="ReplicaFailure", status="True", message=refusal)
    return V1Deployment(
        metadata=V1ObjectMeta(name=name),
        spec=V1DeploymentSpec(replicas=1, selector=V1LabelSelector(), template=V1PodTemplateSpec()),
        status=V1DeploymentStatus(
            updated_replicas=1,
            available_replicas=ready,
            replicas=1,
            conditions=[refused] if refusal else None,
        ),
    )


def waiting(reason: str, starts: int = 0) -> V1Pod:
    ended = V1ContainerState(terminated=V1ContainerStateTerminated(exit_code=3))
    container = V1ContainerStatus(
        name="dask",
        image="dask:1",
        image_id="",
        ready=False,
        restart_count=starts,
        state=V1ContainerState(waiting=V1ContainerStateWaiting(reason=reason, message="why\n so.")),
        last_state=ended,
    )
    return V1Pod(
        metadata=V1ObjectMeta(name="cpu-1"), status=V1PodStatus(container_statuses=[container])
    )


def unplaced() -> V1Pod:
    condition = V1PodCondition(type="PodScheduled", status="False", message="0/1 nodes")
    return V1Pod(metadata=V1ObjectMeta(name="cpu-1"), status=V1PodStatus(conditions=[condition]))


UP = Part("scheduler", deployment("lab-scheduler", 1))


def cpu(*pods: V1Pod, refusal: str = "") -> Part:
    return Part("cpu", deployment("lab-cpu", 0, refusal), pods)


@pytest.mark.parametrize(
    ("part", "lasts", "text"),
    [
        (cpu(waiting("InvalidImageName")), 0, "dask:1: why so; correct kubernetes.image"),
        (cpu(waiting("ImagePullBackOff")), LASTS["image"], "dask:1: why so; correct kubernetes."),
        (cpu(waiting("CrashLoopBackOff", 3)), 0, "ended 3 times with exit code 3: cpu-1 said so"),
        (cpu(waiting("CreateContainerConfigError")), LASTS["other"], "CreateContainerConfigError"),
        (cpu(unplaced()), LASTS["node"], "no node takes it: 0/1 nodes; lower what it asks for"),
        (
            cpu(refusal="exceeded quota: q"),
            LASTS["refused"],
            "gets no pods: exceeded quota: q; rai",
        ),
    ],
)
def test_a_trouble_is_final_once_it_has_lasted(part: Part, lasts: float, text: str) -> None:
    seen = Waiting("lab")
    if lasts:
        for second in (0.0, lasts - 1):
            assert seen.lines([UP, part], Logs(), lambda _: False, second) == ([], False)
    (line,), over = seen.lines([UP, part], Logs(), lambda _: False, lasts)
    assert line.startswith(f"lab: cpu: {text}")
    assert over


@pytest.mark.parametrize(
    ("pod", "note"),
    [
        (unplaced(), "0/1 nodes"),
        (waiting("ImagePullBackOff"), "ImagePullBackOff: why so"),
        (waiting("ContainerCreating"), None),
        (V1Pod(status=V1PodStatus()), None),
    ],
)
def test_status_notes_the_same_in_kubernetes_own_words(pod: V1Pod, note: str | None) -> None:
    found = troubles.obstacle(pod)
    assert (found.note if found else None) == note
    assert (troubles.of_pod(Logs(), pod) is None) == (note is None)


def test_a_trouble_that_was_away_begins_anew() -> None:
    seen, part = Waiting("lab"), cpu(unplaced())
    for now, found in ((0.0, part), (100.0, cpu()), (110.0, part), (200.0, part)):
        assert seen.lines([UP, found], Logs(), lambda _: False, now) == ([], False)


def test_who_may_still_become_ready_is_waited_for() -> None:
    seen = Waiting("lab")
    assert seen.lines([UP, cpu(unplaced())], Logs(), lambda _: True, 0.0) == ([], False)
    late = seen.lines([UP, cpu(unplaced())], Logs(), lambda name: name == "cpu-1", 999.0)
    assert late == ([], False), "an autoscaler has announced a node"
    crash = cpu(waiting("CrashLoopBackOff", 9))
    down = Part("scheduler", deployment("lab-scheduler", 0))
    assert Waiting("lab").lines([down, crash], Logs(), lambda _: False, 0.0) == ([], False)
    few = cpu(waiting("CrashLoopBackOff", 1))
    assert Waiting("lab").lines([UP, few], Logs(), lambda _: False, 0.0) == ([], False)


def test_other_parts_get_a_little_time_to_be_ready() -> None:
    seen, lost = Waiting("lab"), cpu(waiting("InvalidImageName"))
    slow = Part("gpu", deployment("lab-gpu", 0))
    lines, over = seen.lines([UP, lost, slow], Logs(), lambda _: False, 0.0)
    assert (len(lines), over) == (1, False)
    assert seen.lines([UP, lost, slow], Logs(), lambda _: False, OTHERS)[1]
    ready = Part("gpu", deployment("lab-gpu", 1))
    assert Waiting("lab").lines([UP, lost, ready], Logs(), lambda _: False, 0.0)[1]
