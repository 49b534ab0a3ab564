"""What a task runs, run: its start, Dask in it, and a scheduler that Fargate replaces."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from distributed import Client

from perennial import authority
from perennial.platforms.fargate import start
from perennial.platforms.fargate.parts import ecs_cluster, parts
from perennial.platforms.fargate.tasks import References, task_definition
from perennial.spec import ClusterSpec, loads
from perennial.tls import Tls
from tests.homes import wait_until
from tests.platforms.fargate.containers import Machine, Names, Task, names
from tests.platforms.fargate.controller import ecs
from tests.ports import free_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and a name server need root")

HERE = start.Here("0a1b", "10.0.0.9")


def test_what_only_a_task_knows_is_filled_in() -> None:
    assert HERE.fill("cpu-$(TASK)") == "cpu-0a1b"
    assert HERE.fill("tls://$(ADDRESS):1") == "tls://10.0.0.9:1"
    assert HERE.fill("$$(TASK) costs $$5 and $5, $(OTHER)") == "$(TASK) costs $5 and $5, $(OTHER)"


def test_no_key_is_in_the_environment_of_the_command() -> None:
    given = {"PATH": "/bin", start.SECRETS: "{}", start.SERVICE: "{}", "X": "$(TASK)"}
    made = start.environment(given, {"NAME": "$(TASK)"}, HERE)
    assert made == {"PATH": "/bin", "X": "$(TASK)", "NAME": "0a1b"}


def test_files_are_their_users_alone(tmp_path: Path) -> None:
    told = {
        "folders": [str(tmp_path / "a")],
        "files": {str(tmp_path / "a/dask.yaml"): "x: 1"},
        "secrets": {"ca.pem": str(tmp_path / "keys/ca.pem")},
    }
    start.prepare(told, {"ca.pem": "CA", "other.pem": "not wanted"}, HERE)
    assert (tmp_path / "a/dask.yaml").read_text() == "x: 1"
    key = tmp_path / "keys/ca.pem"
    assert key.read_text() == "CA"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "keys/other.pem").exists()


def test_a_secret_that_lacks_a_file(tmp_path: Path) -> None:
    told = {"folders": [], "files": {}, "secrets": {"ca.pem": str(tmp_path / "ca.pem")}}
    with pytest.raises(SystemExit, match=r"ca\.pem: not in the secret of this task"):
        start.prepare(told, {}, HERE)


class Cluster:
    """A scheduler and workers in tasks, and ECS, which starts another one where one has ended."""

    def __init__(self, machine: Machine, known: Names, folder: Path) -> None:
        self.machine, self.names = machine, known
        self.port = free_port()
        self.spec: ClusterSpec = loads(
            json.dumps(
                {
                    "name": "lab",
                    "platform": "fargate",
                    "environment": {"python": sys.executable},
                    "scheduler": {"port": self.port, "dashboard_port": free_port()},
                    "workers": {
                        "cpu": {
                            **{"count": 1, "memory": "1 GiB", "drain": "20 s"},
                            "scale": {"min": 0, "max": 3, "idle": "5 s", "start_up": "10 s"},
                        }
                    },
                    "scaler": {"interval": "1 s", "port": free_port()},
                    "jupyter": None,
                    "fargate": {"region": "eu-central-1", "image": "lab"},
                }
            )
        )
        self.tls = folder / "tls"
        authority.ensure(self.tls, "lab", ["scheduler.lab.perennial"])
        self.number = 10
        self.addresses: dict[str, str] = {}

    def run(self, key: str, id_: str = "") -> Task:
        part = next(each for each in parts(self.spec) if each.key == key)
        task = task_definition(self.spec, part, References("e", "t", "s"))
        self.number += 1
        address = f"127.0.86.{self.number}"
        if key == "scheduler":
            # On the machine of the test a task has one address, and not a machine of its own.
            [container] = task["containerDefinitions"]
            container["command"] = [
                address if word == "0.0.0.0" else word for word in container["command"]
            ]
        secrets = {path.name: path.read_text() for path in self.tls.glob("*.pem")}
        started = self.machine.run(task, address, secrets, id_)
        self.addresses[key] = address
        if key == "scheduler":
            self.names.addresses["scheduler.lab.perennial"] = address
        return started

    def client(self) -> Client:
        from distributed.security import Security

        files = {"ca_file": "ca.pem", "client_cert": "client.pem", "client_key": "client-key.pem"}
        tls = {f"tls_{key}": str(self.tls / name) for key, name in files.items()}
        security = Security(require_encryption=True, **tls)
        return Client(f"tls://{self.addresses['scheduler']}:{self.port}", security=security)

    def ask(self, address: str) -> dict[str, Any]:
        """Ask the scheduler at an address who its workers are, by the client's certificate."""
        import asyncio

        from perennial.scheduler_connection import SchedulerConnection

        tls = Tls.in_folder(self.tls)

        async def asked() -> Any:
            connection = SchedulerConnection(f"tls://{address}:{self.port}", tls)
            try:
                return await connection.ask("identity", 10.0)
            finally:
                await connection.close()

        try:
            found = asyncio.run(asked())
        except (OSError, TimeoutError):
            return {}
        return {each["name"]: each for each in found["workers"].values()}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    machine = Machine(tmp_path)
    try:
        with names() as known:
            yield Cluster(machine, known, tmp_path)
    finally:
        machine.close()


@needs_root
@pytest.mark.lab
@pytest.mark.smoke
@pytest.mark.timeout(400)
def test_workers_find_a_scheduler_that_fargate_has_replaced(cluster: Cluster) -> None:
    first = cluster.run("scheduler")
    worker = cluster.run("cpu")
    known = wait_until(lambda: cluster.ask(first.address), 120)
    assert list(known) == [f"cpu-{worker.id}"]
    [found] = known.values()
    assert found["nthreads"] == 1

    # Where tasks run, nobody finds a key in an environment.
    for process in Path("/proc").glob("[0-9]*"):
        text = b""
        try:
            if str(worker.id).encode() in (process / "cmdline").read_bytes():
                text = (process / "environ").read_bytes()
        except OSError:
            continue
        if (
            b"ECS_CONTAINER_METADATA_URI_V4" in text
            and b"dask" in (process / "cmdline").read_bytes()
        ):
            assert b"PRIVATE KEY" not in text

    # Fargate retires its machine: the scheduler's task is stopped, and another one is started.
    asked = cluster.names.asked["scheduler.lab.perennial"]
    first.kill()
    second = cluster.run("scheduler")
    assert second.address != first.address

    def back() -> dict[str, Any]:
        nonlocal worker
        if worker.process.poll() is not None:  # as ECS does
            worker = cluster.run("cpu")
        return cluster.ask(second.address)

    assert list(wait_until(back, 180)) == [f"cpu-{worker.id}"]
    assert cluster.names.asked["scheduler.lab.perennial"] > asked

    # SIGTERM: it drains and ends by itself, before Fargate would kill it.
    assert worker.stop(90) == 0
    assert cluster.ask(second.address) == {}


@needs_root
@pytest.mark.lab
@pytest.mark.smoke
@pytest.mark.timeout(400)
def test_the_scalers_task_sizes_a_service_by_its_work(cluster: Cluster) -> None:
    """Work → a larger service → a worker of its task's name; no work → the service is empty."""
    with ecs() as controller:
        client: Any = boto3.client("ecs", region_name="eu-central-1")
        network: Any = boto3.client("ec2", region_name="eu-central-1")
        name = ecs_cluster("lab")
        client.create_cluster(clusterName=name)
        client.register_task_definition(
            **{"family": "cpu", "networkMode": "awsvpc", "cpu": "1024", "memory": "4096"},
            requiresCompatibilities=["FARGATE"],
            containerDefinitions=[{"name": "worker", "image": "lab"}],
        )
        where = {
            "subnets": [network.describe_subnets()["Subnets"][0]["SubnetId"]],
            "securityGroups": [network.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        }
        client.create_service(
            **{"cluster": name, "serviceName": "cpu", "taskDefinition": "cpu"},
            **{"desiredCount": 0, "launchType": "FARGATE"},
            networkConfiguration={"awsvpcConfiguration": where},
        )
        service = controller.backend.services[f"{name}:cpu"]
        keys = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        cluster.machine.given = {key: os.environ[key] for key in keys}
        first = cluster.run("scheduler")
        cluster.run("scaler")
        wait_until(lambda: cluster.ask(first.address) is not None, 60)
        with cluster.client() as dask:
            future = dask.submit(int, "7")
            wait_until(lambda: service.desired_count == 1, 120)
            [task] = wait_until(lambda: controller.tasks(service))
            worker = cluster.run("cpu", task.id)
            assert future.result(120) == 7
            assert list(cluster.ask(first.address)) == [f"cpu-{task.id}"]
            del future
            wait_until(lambda: service.desired_count == 0, 120)
            wait_until(lambda: task.desired_status == "STOPPED")
        assert worker.stop(90) == 0
