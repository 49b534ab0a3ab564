"""What moto's ECS lacks: a scheduler that starts and stops the tasks of services, and protection.

It does what AWS documents of it: as many tasks as are desired; when there are too many, one that is
not protected goes, whichever (here: one that nobody named, wherever there is one, so that a fleet
which forgets to protect is found out); a task that was stopped is replaced.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, RLock, Thread
from typing import Any
from unittest.mock import patch

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.ecs.exceptions import InvalidParameterException
from moto.ecs.models import EC2ContainerServiceBackend, Service, Task
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
#: Seconds between two looks.
LOOK = 0.02
#: Tasks that one `UpdateTaskProtection` may name.
MOST_PROTECTED = 10


class Controller:
    """ECS's own scheduler, over moto's memory."""

    def __init__(self) -> None:
        self.lock = RLock()
        #: Whether new tasks come to run.
        self.starts = True
        #: Whether ECS finds room for new tasks.
        self.room = True
        self.protected: set[str] = set()
        #: Tasks that `DescribeTasks` does not know yet, and for how many more calls.
        self.unknown: dict[str, int] = {}
        #: Services whose tasks are left as they are.
        self.frozen = False

    @property
    def backend(self) -> EC2ContainerServiceBackend:
        found: EC2ContainerServiceBackend = get_backend("ecs")[DEFAULT_ACCOUNT_ID][REGION]
        return found

    def tasks(self, service: Service) -> list[Task]:
        own = self.backend.tasks.get(service.cluster_name, {}).values()
        return [task for task in own if task.group == f"service:{service.name}"]

    def reconcile(self) -> None:
        """Bring each service nearer to what is desired of it."""
        with self.lock:
            for service in [*self.backend.services.values()]:
                if not self.frozen:
                    self._reconcile(service)

    def _reconcile(self, service: Service) -> None:
        wanted = [task for task in self.tasks(service) if task.desired_status == "RUNNING"]
        size = service.desired_count if service.status == "ACTIVE" else 0
        free = [task for task in wanted if task.task_arn not in self.protected]
        for task in free[: max(0, len(wanted) - size)]:
            self._stop(task)
        for _ in range(size - len(wanted) if self.room else 0):
            self._start(service)
        for task in wanted:
            if task.desired_status == "RUNNING" and task.last_status == "PENDING" and self.starts:
                task.last_status = "RUNNING"
        now = [task for task in self.tasks(service) if task.desired_status == "RUNNING"]
        service.running_count = sum(task.last_status == "RUNNING" for task in now)
        service.pending_count = len(now) - service.running_count

    def _stop(self, task: Task) -> None:
        task.desired_status = task.last_status = "STOPPED"
        interfaces = get_backend("ec2")[DEFAULT_ACCOUNT_ID][REGION]
        for attached in task.attachments:
            for detail in attached["details"]:
                if detail["name"] == "networkInterfaceId":
                    interfaces.delete_network_interface(detail["value"])

    def _start(self, service: Service) -> None:
        backend = self.backend
        made = Task(
            cluster=backend.clusters[service.cluster_name],
            task_definition=backend.describe_task_definition(str(service.task_definition)),
            container_instance_arn=None,
            resource_requirements={},
            backend=backend,
            group=f"service:{service.name}",
            launch_type="FARGATE",
            networking_configuration=service.network_configuration,
        )
        made.id = uuid.uuid4().hex
        made._transitions = []  # moto's own way is to stop it by and by
        made.last_status = "PENDING"
        made.created_at = datetime.now(UTC)
        backend.tasks.setdefault(service.cluster_name, {})[made.task_arn] = made

    def say(self, service: str, message: str) -> None:
        """Add an event to a service."""
        for each in self.backend.services.values():
            if each.name == service:
                event = {"id": uuid.uuid4().hex, "createdAt": datetime.now(UTC), "message": message}
                each.events.insert(0, event)  # ECS gives the newest first

    def protect(self, tasks: list[str], enabled: bool) -> dict[str, Any]:
        """Answer `UpdateTaskProtection`: it knows tasks that run and shall go on running."""
        if len(tasks) > MOST_PROTECTED:
            raise InvalidParameterException(f"Tasks can have at most {MOST_PROTECTED} items.")
        known = {
            task.task_arn: task for own in self.backend.tasks.values() for task in own.values()
        }
        done, failed = [], []
        with self.lock:
            for arn in tasks:
                task = known.get(arn)
                if (
                    task is None
                    or task.desired_status != "RUNNING"
                    or task.last_status != "RUNNING"
                ):
                    failed.append({"arn": arn, "reason": "TASK_NOT_VALID"})
                    continue
                (self.protected.add if enabled else self.protected.discard)(arn)
                done.append({"taskArn": arn, "protectionEnabled": enabled})
        return {"protectedTasks": done, "failures": failed}


@contextmanager
def scheduling() -> Iterator[Controller]:
    """Run a scheduler of ECS over the moto of this process."""
    controller, ended = Controller(), Event()
    listed, described = (
        EC2ContainerServiceBackend.list_tasks,
        EC2ContainerServiceBackend.describe_tasks,
    )

    def list_tasks(self: Any, *args: Any, **more: Any) -> list[Task]:
        service = more.get("service_name") or (args[4] if len(args) > 4 else None)
        found = listed(self, *args, **more)
        return [task for task in found if not service or task.group == f"service:{service}"]

    def describe_tasks(self: Any, cluster: str, tasks: list[str]) -> list[Task]:
        for arn in tasks:
            controller.unknown[arn] = controller.unknown.get(arn, 0) - 1
        known = [arn for arn in tasks if controller.unknown[arn] < 0]
        return described(self, cluster, known) if known else []

    def update_task_protection(self: Any) -> ActionResult:
        enabled = self._get_param("protectionEnabled")
        return ActionResult(controller.protect(self._get_param("tasks"), enabled))

    def run() -> None:
        while not ended.wait(LOOK):
            controller.reconcile()

    backend, response = EC2ContainerServiceBackend, EC2ContainerServiceResponse
    with (
        patch.object(backend, "list_tasks", list_tasks),
        patch.object(backend, "describe_tasks", describe_tasks),
        patch.object(response, "update_task_protection", update_task_protection, create=True),
    ):
        thread = Thread(target=run, daemon=True)
        thread.start()
        try:
            yield controller
        finally:
            ended.set()
            thread.join()


@contextmanager
def ecs() -> Iterator[Controller]:
    """Serve moto with a scheduler of ECS, to whoever asks at `AWS_ENDPOINT_URL`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": REGION,
    }
    with scheduling() as controller, patch.dict(os.environ, own):
        try:
            yield controller
        finally:
            server.stop()
            controller.backend.reset()
