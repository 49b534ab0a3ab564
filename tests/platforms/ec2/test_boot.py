"""When an instance starts its worker and when it answers its group: `boot` in a process of its own.

The metadata and AWS's services are those of `test_instance`; systemd is a program that writes down
what it is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.server import ThreadedMotoServer

from tests.platforms.ec2 import metadata

STATE = "autoscaling/target-lifecycle-state"
#: The program itself, with shorter pauses.
PROGRAM = "from perennial.platforms.ec2.instance import boot; boot.LOOK = 0.05; boot.main([])"
PREPARED = ["systemd-sysusers", "systemctl daemon-reload"]
STARTED = f"systemctl start --no-block dask-lab-cpu@{metadata.INSTANCE}.service"
COMPLETED = "complete perennial-launched CONTINUE"


@dataclass
class Instance:
    """An instance of a group, which boots as often as it is told."""

    folder: Path
    metadata: Path
    environment: dict[str, str]
    #: How often the group does not wait for an answer.
    refusals: int = 0

    @property
    def happened(self) -> list[str]:
        """What was done since the last boot began, in order."""
        return (self.folder / "happened").read_text().splitlines()

    @property
    def keys(self) -> list[str]:
        """The keys that are in its memory."""
        return sorted(each.name for each in self.folder.glob("run/*"))

    def note(self, what: str) -> None:
        """Write down what happens."""
        with open(self.folder / "happened", "a") as file:
            file.write(f"{what}\n")

    def answer(self, call: Any) -> ActionResult:
        """Answer a completed action as a group does."""
        named, result = (
            call._get_param("LifecycleHookName"),
            call._get_param("LifecycleActionResult"),
        )
        if self.refusals:
            self.refusals -= 1
            self.note("refused")
            raise ValidationError("No active Lifecycle Action found with instance ID")
        self.note(f"complete {named} {result}")
        return EmptyResult()

    @contextmanager
    def booting(self) -> Iterator[subprocess.Popen[bytes]]:
        """Boot; at the end the instance is stopped, and forgets its memory."""
        (self.folder / "happened").write_text("")
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=self.folder, env=self.environment
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)
            for each in self.folder.glob("run/*"):
                each.unlink()

    def wait_for(self, what: str) -> None:
        """Wait until something has happened."""
        until = time.monotonic() + 30
        while what not in self.happened:
            assert time.monotonic() < until, self.happened
            time.sleep(0.02)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    secret = f"perennial/{tmp_path.name}/worker"  # moto's are those of the process
    bundle = {
        "mark": "address-of-this-instance",
        "secrets": {secret: str(tmp_path / "run")},
        "environment": {"folder": ""},
        "units": {"services": ["dask-lab-cpu@.service"]},
        "group": "perennial-lab-cpu",
        "launched": "perennial-launched",
    }
    (tmp_path / "root").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "settings.json").write_text("{}")
    for name in ("systemctl", "systemd-sysusers"):
        program = tmp_path / "bin" / name
        program.write_text(
            f'#!/bin/sh\necho "$(basename "$0")${{1:+ $*}}" >> {tmp_path}/happened\n'
        )
        program.chmod(0o755)
    metadata.describe(tmp_path / "metadata", "10.0.0.7")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("secretsmanager", "eu-central-1", endpoint_url=endpoint).create_secret(
            Name=secret, SecretString=json.dumps({"worker-key.pem": "PRIVATE"})
        )
        with metadata.serving(tmp_path / "metadata") as url:
            environment = {
                **os.environ,
                **{"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "AWS_ENDPOINT_URL": endpoint},
                **{"AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
                "PYTHONPATH": str(Path(__file__).parents[3]),
            }
            made = Instance(tmp_path, tmp_path / "metadata", environment)

            def answer(call: Any) -> ActionResult:
                return made.answer(call)

            with patch.object(
                AutoScalingResponse, "complete_lifecycle_action", answer, create=True
            ):
                yield made
    finally:
        server.stop()


def test_a_member_serves_before_its_group_hears_of_it(instance: Instance) -> None:
    with instance.booting() as process:
        assert process.wait(30) == 0
        assert instance.happened == [*PREPARED, STARTED, COMPLETED]
        assert instance.keys == ["worker-key.pem"]


def test_one_of_a_warm_pool_serves_at_the_boot_after_it_was_stopped(instance: Instance) -> None:
    metadata.say(instance.metadata, STATE, "Warmed:Stopped")
    with instance.booting() as process:
        instance.wait_for(COMPLETED)
        time.sleep(0.5)  # ten looks
        assert process.poll() is None
        # Once, and without a worker or its keys.
        assert instance.happened == [*PREPARED, COMPLETED]
        assert instance.keys == []
    metadata.say(instance.metadata, STATE, "InService")
    with instance.booting() as process:
        assert process.wait(30) == 0
        assert instance.happened == [*PREPARED, STARTED, COMPLETED]
        assert instance.keys == ["worker-key.pem"]


def test_metadata_that_says_nothing_yet_starts_nothing(instance: Instance) -> None:
    """Else one of a warm pool would join, and be stopped with tasks on it."""
    (instance.metadata / "latest/meta-data" / STATE).unlink()
    with instance.booting() as process:
        time.sleep(0.5)  # ten looks
        assert process.poll() is None
        metadata.say(instance.metadata, STATE, "Warmed:Stopped")
        instance.wait_for(COMPLETED)
        assert instance.happened == [*PREPARED, COMPLETED]
        assert instance.keys == []


def test_metadata_that_changes_late_does_not_keep_an_instance_out(instance: Instance) -> None:
    metadata.say(instance.metadata, STATE, "Warmed:Stopped")
    with instance.booting() as process:
        instance.wait_for(COMPLETED)
        metadata.say(instance.metadata, STATE, "InService")
        assert process.wait(30) == 0
        assert instance.happened == [*PREPARED, COMPLETED, STARTED, COMPLETED]


@pytest.mark.parametrize("state", ["Warmed:Stopped", "InService"])
def test_a_group_that_does_not_wait_yet_is_asked_again(instance: Instance, state: str) -> None:
    """Else it would wait for half an hour, and then terminate the instance."""
    metadata.say(instance.metadata, STATE, state)
    instance.refusals = 3
    with instance.booting():
        instance.wait_for(COMPLETED)
        started = [STARTED] if state == "InService" else []
        assert instance.happened == [*PREPARED, *started, *["refused"] * 3, COMPLETED]


def test_after_a_reboot_no_group_waits(instance: Instance) -> None:
    instance.refusals = 1000
    with instance.booting() as process:
        assert process.wait(30) == 0
        assert instance.happened[:3] == [*PREPARED, STARTED]
        assert {*instance.happened[3:]} == {"refused"}
