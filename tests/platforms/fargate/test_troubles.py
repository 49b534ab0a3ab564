"""Why a task stopped: ECS's words, and what a person is told to do."""

from __future__ import annotations

import pytest

from perennial.platforms.fargate.ecs import EcsService, EcsTask
from perennial.platforms.fargate.troubles import Kind, of_service, of_task

STOPPED: list[tuple[str, int | None, Kind, str]] = [
    (
        "CannotPullContainerError: pull image manifest has been retried 5 time(s): not found",
        None,
        "image",
        "correct fargate.image",
    ),
    (
        "ResourceInitializationError: unable to pull secrets or registry auth: AccessDenied",
        None,
        "secret",
        "Secrets Manager by NAT or by an endpoint",
    ),
    ("OutOfMemoryError: Container killed due to memory usage", 137, "memory", "raise fargate's"),
    ("Essential container in task exited", 137, "memory", "lower the memory of its processes"),
    ("Essential container in task exited", 1, "crash", "exited with 1; see `perennial logs cpu`"),
    ("Your Spot Task was interrupted.", None, "taken", "ECS starts another one"),
    (
        "ECS is performing maintenance on the underlying infrastructure hosting the task.",
        None,
        "taken",
        "ECS starts another one",
    ),
    ("Scaling activity initiated by (deployment ecs-svc/1)", 0, "ended", "Scaling activity"),
    ("something new", None, "other", "see `perennial logs cpu`"),
]


@pytest.mark.parametrize(("reason", "code", "kind", "said"), STOPPED)
def test_why_a_task_stopped(reason: str, code: int | None, kind: Kind, said: str) -> None:
    task = EcsTask("t/1", "STOPPED", "STOPPED", reason=reason, exit_code=code)
    found = of_task("cpu", task)
    assert found is not None
    assert found.kind == kind
    assert said in found.text
    assert "\n" not in found.text
    assert found.is_wrong is (kind not in ("ended", "taken"))


def test_a_task_that_runs_has_no_trouble() -> None:
    assert of_task("cpu", EcsTask("t/1", "RUNNING")) is None


def test_only_the_latest_of_a_services_events_counts() -> None:
    steady = "(service cpu) has reached a steady state."
    full = (
        "(service cpu) was unable to place a task. Reason: You've reached the limit on the number"
        " of vCPUs you can run concurrently. For more information, see the guide."
    )
    assert "the limit on the number of vCPUs" in of_service(
        EcsService("cpu", 2, 1, 1, (full, steady))
    )
    assert of_service(EcsService("cpu", 2, 2, 1, (steady, full))) == ""
    assert of_service(EcsService("cpu", 2, 2, 1)) == ""
