"""Ports of tasks through SSM: the AWS command line's part is played by a program of the test."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perennial.aws.programs import GRACE
from perennial.errors import PerennialError
from perennial.platforms.fargate import sessions
from perennial.platforms.fargate.ecs import EcsTask
from perennial.platforms.fargate.sessions import Sessions, start_session
from perennial.tunnel.forwarding import Forward

TOLD = {
    "cluster": "lab",
    "domain": "lab.perennial",
    "region": "eu-central-1",
    "profile": "",
    "dashboard": "8787",
}
#: It leaves all to the plugin, and hands no signal on to it.
AWS = f"""#!{sys.executable}
import subprocess, sys

sys.exit(subprocess.call(["session-manager-plugin", *sys.argv[1:]]))
"""
#: Carries a port as `aws ssm start-session` does, and ends with its standard error.
PLUGIN = f"""#!{sys.executable}
import asyncio, json, select, sys

async def main():
    words = sys.argv[1:]
    if "silent" in " ".join(words):
        await asyncio.sleep(60)
    if "execute-command" in words:
        print("The Session Manager plugin was installed successfully.")
        print("Starting session with SessionId: ecs-execute-command-1\\n")
        reads = select.select([sys.stdin], [], [], 0.5)[0]  # as the plugin does all the while
        if reads and not sys.stdin.read(1) or "refused" in " ".join(words):
            print("Cannot perform start session: EOF")
            return
        print("ran " + words[words.index("--command") + 1])
        print("\\n\\nExiting session with sessionId: ecs-execute-command-1.")
        return
    target = words[words.index("--target") + 1]
    ports = json.loads(words[words.index("--parameters") + 1])
    if "refused" in target:
        sys.exit("An error occurred (TargetNotConnected): the task is not connected")
    async def carry(reader, writer):
        far = await asyncio.open_connection("127.0.0.1", int(ports["portNumber"][0]))
        async def pump(source, sink):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()
        await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
    server = await asyncio.start_server(carry, "127.0.0.1", int(ports["localPortNumber"][0]))
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in (("aws", AWS), ("session-manager-plugin", PLUGIN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which tasks ECS lists of each service."""

    def known(**by_part: list[EcsTask]) -> None:
        ecs = SimpleNamespace(cluster="perennial-lab-ecs", tasks=lambda part: by_part.get(part, []))
        monkeypatch.setattr(sessions, "Ecs", lambda *_: ecs)
        monkeypatch.setattr(sessions, "Aws", lambda *_: None)

    return known


def running(name: str) -> EcsTask:
    return EcsTask(f"arn:task/lab/{name}", "RUNNING", runtime=f"{name}-1")


def test_the_command_names_the_container_and_both_ports() -> None:
    told = {**TOLD, "profile": "work"}
    command = start_session(told, "perennial-lab-ecs", running("0a1b"), 8786, 40_001)
    assert command[:7] == (
        *("aws", "ssm", "start-session", "--region", "eu-central-1", "--profile", "work"),
    )
    assert command[command.index("--target") + 1] == "ecs:perennial-lab-ecs_0a1b_0a1b-1"
    assert json.loads(command[-1]) == {"portNumber": ["8786"], "localPortNumber": ["40001"]}


@pytest.mark.usefixtures("programs")
def test_a_connection_goes_to_the_newest_task_and_a_session_that_ends_is_told(
    tasks: Callable[..., None],
) -> None:
    tasks(scheduler=[running("old"), running("new")])

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"scheduler: " + await reader.readline())
        await writer.drain()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        forward = Forward(0, "scheduler.lab.perennial", port)
        link: Any = await Sessions(TOLD).connect([forward])
        try:
            reader, writer = await link.open(forward)
            writer.write(b"hello\n")
            assert await asyncio.wait_for(reader.read(), 20) == b"scheduler: hello\n"
            writer.close()
            ended = asyncio.create_task(link.ended())
            await asyncio.sleep(0)
            assert not ended.done()
            link._processes[0].terminate()  # as SSM does when the task is replaced
            await asyncio.wait_for(ended, 20)
        finally:
            await link.close()
            server.close()

    asyncio.run(story())


@pytest.mark.usefixtures("programs")
def test_each_way_to_fail_is_a_line(tasks: Callable[..., None]) -> None:
    tasks(scheduler=[running("refused")])
    way = Sessions(TOLD)
    [refused, missing] = way.check([("scheduler.lab.perennial", 1), ("jupyter.lab.perennial", 2)])
    assert "SSM does not reach scheduler: An error occurred (TargetNotConnected)" in refused
    assert missing == "no task of jupyter is ready; see `perennial status`"


@pytest.mark.usefixtures("programs")
def test_a_command_in_a_container_gives_what_it_prints() -> None:
    said = sessions.run(TOLD, "perennial-lab-ecs", running("0a1b"), "scheduler", "python -V")
    assert said == "ran python -V"


@pytest.mark.usefixtures("programs")
def test_what_the_plugin_says_of_its_failure_is_no_answer() -> None:
    said = "cannot run a command in scheduler-refused: Cannot perform start session: EOF"
    with pytest.raises(PerennialError, match=said):
        sessions.run(TOLD, "perennial-lab-ecs", running("refused"), "scheduler", "python -V")


@pytest.mark.usefixtures("programs")
def test_no_plugin_outlives_its_session(tasks: Callable[..., None]) -> None:
    tasks(scheduler=[running("a")])
    forward = Forward(0, "scheduler.lab.perennial", 1)

    async def story() -> None:
        link = await Sessions(TOLD).connect([forward])
        began = time.monotonic()
        await link.close()
        assert time.monotonic() - began < GRACE
        with pytest.raises(ConnectionRefusedError):
            await link.open(forward)

    asyncio.run(story())


@pytest.mark.usefixtures("programs")
def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "COMMAND_TIMEOUT", 1.0)
    with pytest.raises(PerennialError, match="scheduler-silent: no answer after 1 s"):
        sessions.run(TOLD, "perennial-lab-ecs", running("silent"), "scheduler", "python -V")


def test_without_the_plugin(
    tasks: Callable[..., None], programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks(scheduler=[running("a")])
    (programs / "session-manager-plugin").unlink()
    with pytest.raises(PerennialError, match="session-manager-plugin is not installed here"):
        asyncio.run(Sessions(TOLD).connect([Forward(0, "scheduler.lab.perennial", 1)]))
