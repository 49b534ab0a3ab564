"""`perennial connect --port-forward`: connections to a cluster's tasks through SSM.

The AWS command line and its session-manager-plugin carry one port for each `aws ssm
start-session`. A session ends with its task; then the way is made again, to the task that has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from perennial.aws import programs
from perennial.aws.client import Aws
from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.platforms.fargate.ecs import Ecs, EcsTask
from perennial.platforms.fargate.parts import ecs_cluster, host
from perennial.stacked import deployed
from perennial.tunnel.bastion import endpoints_of
from perennial.tunnel.forwarding import CONNECT_TIMEOUT, LOOPBACK, Endpoint, Forward

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from perennial.connect import Connection

#: Document of SSM that carries a port.
DOCUMENT = "AWS-StartPortForwardingSession"
#: Seconds between two attempts to reach what a session carries.
LOOK = 0.2
#: Seconds in which a command in a container ends.
COMMAND_TIMEOUT = 3 * CONNECT_TIMEOUT
#: How lines begin that are SSM's own.
_OF_THE_SESSION = ("The Session Manager plugin", "Starting session", "Exiting session")
#: How the line begins by which the plugin says that it has failed; its exit code is 0.
_REFUSED = "Cannot perform start session"
#: What has to be installed here.
PROGRAMS = ("aws", "session-manager-plugin")


class Sessions:
    """Connects to tasks through SSM."""

    #: What has to be right there.
    remedy = (
        "whether you may `ssm:StartSession` on its tasks, and that fargate.exec is true in its file"
    )

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = told
        self.name = f"SSM in {told['region']}"

    @staticmethod
    def words(told: Mapping[str, str]) -> str:
        """Describe it in a message."""
        return f"port-forward by SSM in {told['region']}"

    @staticmethod
    def reaching(connection: Connection) -> dict[str, str] | None:
        """Say how a cluster is reached; None where it is none that SSM reaches."""
        found = urlsplit(connection.scheduler_address).hostname or ""
        try:
            spec = deployed(cluster_state(connection.cluster))
        except (PerennialError, OSError):
            return None
        options = spec.options
        if not hasattr(options, "exec") or found != host(spec, "scheduler"):
            return None
        if not options.exec:
            raise PerennialError(
                f"{spec.name}: fargate.exec is false, so SSM does not reach its tasks; set it to"
                " true, or go through a machine in its VPC: --ssh USER@BASTION"
            )
        domain = found.partition(".")[2]
        return {
            "cluster": spec.name,
            "domain": domain,
            "region": options.region,
            "profile": options.profile or os.environ.get("AWS_PROFILE", ""),
            "dashboard": str(spec.scheduler.dashboard_port),
        }

    def endpoints(self, connection: Connection) -> list[Endpoint]:
        """Name the scheduler and JupyterLab, and the dashboard's port in the scheduler's task."""
        own = [each for each in endpoints_of(connection) if self._part(each[0])]
        return [*own, (own[0][0], int(self._told["dashboard"]))]

    async def connect(self, forwards: Sequence[Forward]) -> SessionsLink:
        """Start a session for each place."""
        link = SessionsLink(self._told)
        try:
            for forward in forwards:
                await link.start(forward, self._part(forward.host))
        except BaseException:
            await link.close()
            raise
        return link

    def check(self, places: Sequence[Endpoint]) -> list[str]:
        """Go to each place once."""

        async def proved() -> list[str]:
            link, said = SessionsLink(self._told), []
            try:
                for place, port in places:
                    try:
                        await link.start(Forward(0, place, port), self._part(place))
                        said.append("")
                    except PerennialError as error:
                        said.append(str(error))
            finally:
                await link.close()
            return said

        return asyncio.run(proved())

    def cancel(self) -> None:
        """End what keeps `connect` waiting: it has its own timeout."""

    def _part(self, place: str) -> str:
        part, _, domain = place.partition(".")
        return part if domain == self._told["domain"] else ""


class SessionsLink:
    """Sessions that are open, each a process of the AWS command line."""

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = told
        self._ecs = Ecs(Aws(told["region"], told["profile"] or None), ecs_cluster(told["cluster"]))
        self._ports: dict[Endpoint, int] = {}
        self._processes: list[Process] = []
        self._refusal = ""

    async def start(self, forward: Forward, part: str) -> None:
        """Start the session for a place, and wait until it carries."""
        require_programs()
        task = await asyncio.to_thread(self._task, part)
        local = _free_port()
        command = start_session(self._told, self._ecs.cluster, task, forward.port, local)
        with tempfile.TemporaryFile() as heard:
            process = await programs.begin(command, stderr=heard)
            self._processes.append(process)
            await self._carried(process, local, part, heard)
        self._ports[forward.host, forward.port] = local

    async def ended(self) -> None:
        """Wait until a session ends."""
        waits = [asyncio.create_task(each.wait()) for each in self._processes]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def open(self, forward: Forward) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a place."""
        return await asyncio.open_connection(LOOPBACK, self._ports[forward.host, forward.port])

    def refusal(self) -> str:
        """Return why a place was not reached of late, and forget it."""
        said, self._refusal = self._refusal, ""
        return said

    async def close(self) -> None:
        """End the sessions."""
        await programs.end(self._processes)

    def _task(self, part: str) -> EcsTask:
        running = [task for task in self._ecs.tasks(part) if task.is_running and task.runtime]
        if not running:
            raise PerennialError(f"no task of {part} is ready; see `perennial status`")
        return running[-1]

    async def _carried(self, process: Process, local: int, part: str, heard: IO[bytes]) -> None:
        """Wait until the session's port accepts connections."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                while process.returncode is None:
                    try:
                        _, writer = await asyncio.open_connection(LOOPBACK, local)
                    except OSError:
                        await asyncio.sleep(LOOK)
                        continue
                    writer.close()
                    return
        self._refusal = " ".join(_text(heard).split()) or "no answer"
        raise PerennialError(f"SSM does not reach {part}: {self._refusal}")


def start_session(
    told: Mapping[str, str], cluster: str, task: EcsTask, port: int, local: int
) -> tuple[str, ...]:
    """Write the command that carries a port of a task to one of this machine. Pure."""
    parameters = {"portNumber": [str(port)], "localPortNumber": [str(local)]}
    return (
        *("aws", "ssm", "start-session", "--region", told["region"]),
        *(("--profile", told["profile"]) if told["profile"] else ()),
        *("--target", f"ecs:{cluster}_{task.id}_{task.runtime}"),
        *("--document-name", DOCUMENT, "--parameters", json.dumps(parameters)),
    )


def run(told: Mapping[str, str], cluster: str, task: EcsTask, container: str, words: str) -> str:
    """Run a command in a container; return the last line that it prints."""
    require_programs()
    command = (
        *("aws", "ecs", "execute-command", "--region", told["region"]),
        *(("--profile", told["profile"]) if told["profile"] else ()),
        *("--cluster", cluster, "--task", task.arn, "--container", container),
        *("--interactive", "--command", words),
    )
    try:
        code, out, err = asyncio.run(_done(command))
    except TimeoutError:
        raise PerennialError(
            f"cannot run a command in {container}-{task.id}: no answer after {COMMAND_TIMEOUT:g} s"
        ) from None
    # Around it stands what SSM says of the session.
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(_OF_THE_SESSION)]
    refused = [line for line in said if line.startswith(_REFUSED)]
    if code or refused or not said:
        why = " ".join([*refused, *err.split()]) or "it printed nothing"
        raise PerennialError(f"cannot run a command in {container}-{task.id}: {why}")
    return said[-1]


async def _done(command: Sequence[str]) -> tuple[int | None, str, str]:
    """Run a command; its standard input stays open, as the plugin ends a session at its end."""
    reading, writing = os.pipe()
    try:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = await programs.begin(command, stdin=reading, stdout=out, stderr=err)
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await process.wait()
            finally:
                await programs.end([process])
            return process.returncode, _text(out), _text(err)
    finally:
        os.close(reading)
        os.close(writing)


def _text(file: IO[bytes]) -> str:
    """Read what programs have written into a file."""
    file.seek(0)
    return file.read().decode(errors="replace")


def require_programs() -> None:
    """Raise where what SSM needs on this machine is not there."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise PerennialError(
                f"{program} is not installed here; SSM needs the AWS command line and its"
                " session-manager-plugin, or use --ssh USER@BASTION"
            )


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return int(taken.getsockname()[1])
