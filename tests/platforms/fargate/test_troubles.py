"""Why a task stopped: ECS's words, and what a person is told to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perennial.platforms.fargate.deployer import _hopeless
from perennial.platforms.fargate.ecs import EcsService, EcsTask
from perennial.platforms.fargate.troubles import Kind, of_service, of_task
from tests.platforms.fargate.test_tasks import spec

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
    (
        "Unexpected EC2 error while attempting to Create Network Interface with public IP"
        " assignment disabled in subnet 'subnet-0a1b2c3d': InsufficientFreeAddressesInSubnet",
        None,
        "address",
        "name more in fargate.network.subnets",
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


class Services:
    """Services of ECS, of which one has no task that starts."""

    def __init__(self, stopped: list[EcsTask]) -> None:
        self.stopped = stopped

    def services(self, names: list[str]) -> dict[str, EcsService]:
        return {name: EcsService(name, 1, 0 if name == "cpu" else 1, 1) for name in names}

    def tasks(self, service: str, wanted: str) -> list[EcsTask]:
        assert (service, wanted) == ("cpu", "STOPPED")
        return self.stopped


def test_nobody_waits_for_a_service_whose_tasks_never_start() -> None:
    cluster, began = spec(), datetime(2026, 1, 1, tzinfo=UTC)
    failed = [
        EcsTask(
            f"t/{number}",
            "STOPPED",
            "STOPPED",
            reason="CannotPullContainerError: not found",
            created=began + timedelta(minutes=number),
        )
        for number in range(1, 4)
    ]
    [line] = _hopeless(cluster, Services(failed), began)  # type: ignore[arg-type]
    assert line.startswith("lab: cpu: CannotPullContainerError: not found; correct fargate.image")
    assert _hopeless(cluster, Services(failed[:2]), began) == []  # type: ignore[arg-type]
    later = began + timedelta(hours=1)  # those were of an earlier deployment
    assert _hopeless(cluster, Services(failed), later) == []  # type: ignore[arg-type]
