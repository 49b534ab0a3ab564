"""`perennial connect --port-forward`: connections to a cluster through Systems Manager.

Each place has a session of its own with the scheduler's instance, which Amazon's plugin of the AWS
command line carries: it listens on a port of this machine, and the agent on the instance connects.
Nothing has to be open to the outside, and IAM says who may.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perennial.aws import programs
from perennial.aws.client import Aws
from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.platforms.ec2 import groups, parts
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.stacked import deployed
from perennial.tunnel.bastion import endpoints_of
from perennial.tunnel.forwarding import CONNECT_TIMEOUT, LOOPBACK, Endpoint, Forward

if TYPE_CHECKING:
    from perennial.connect import Connection

PLUGIN = "session-manager-plugin"
DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
#: Seconds between two looks at whether the plugin listens.
LOOK = 0.1


class PortForward:
    """Connects through the scheduler's instance."""

    #: What has to be right there.
    remedy = "whether you may start sessions (ssm:StartSession) on the scheduler's instance"

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = told
        self.name = f"Systems Manager in {told['region']}"

    @staticmethod
    def words(told: Mapping[str, str]) -> str:
        """Describe it in a message."""
        return f"port-forward by Systems Manager in {told['region']}"

    @staticmethod
    def reaching(connection: Connection) -> dict[str, str] | None:
        """Say how a cluster is reached; None where none on EC2 was deployed from here."""
        try:
            spec = deployed(cluster_state(connection.cluster))
        except (PerennialError, OSError):
            return None
        host = urlsplit(connection.scheduler_address).hostname
        options = spec.options
        if getattr(options, "scheduler", None) is None or not hasattr(options, "metadata"):
            return None
        if host != parts.scheduler_host(spec):
            return None
        return {
            "cluster": connection.cluster,
            "region": options.region,
            "profile": options.profile or "",
        }

    def endpoints(self, connection: Connection) -> list[Endpoint]:
        """Name the scheduler and JupyterLab."""
        return endpoints_of(connection)

    async def connect(self, forwards: Sequence[Forward]) -> PortForwardLink:
        """Begin a session for each place."""
        link = PortForwardLink(self._told)
        try:
            await link.begin([(each.host, each.port) for each in forwards])
        except BaseException:
            await link.close()
            raise
        return link

    def check(self, places: Sequence[Endpoint]) -> list[str]:
        """Connect once to each place."""
        return asyncio.run(_proved(self._told, places))

    def cancel(self) -> None:
        """End what keeps `connect` waiting: it has its own timeout."""


class PortForwardLink:
    """Sessions of Systems Manager, each with a port here."""

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = told
        self._ports: dict[Endpoint, int] = {}
        self._plugins: list[asyncio.subprocess.Process] = []
        self._refusal = ""

    async def begin(self, places: Sequence[Endpoint]) -> None:
        """Begin a session for each place; the agent connects to it from the instance."""
        aws = Aws(self._told["region"], self._told["profile"] or None)
        instance = await asyncio.to_thread(_instance, aws, self._told["cluster"])
        for place in dict.fromkeys(places):
            self._ports[place] = _free_port()
            asked = {
                "Target": instance,
                "DocumentName": DOCUMENT,
                "Parameters": {
                    "host": [place[0]],
                    "portNumber": [str(place[1])],
                    "localPortNumber": [str(self._ports[place])],
                },
            }
            session = await asyncio.to_thread(_session, aws, asked)
            words = (json.dumps(session), aws.region, "StartSession", self._told["profile"])
            where = aws.client("ssm").meta.endpoint_url
            command = (_plugin(), *words, json.dumps(asked), where)
            self._plugins.append(await programs.begin(command))
        async with asyncio.timeout(CONNECT_TIMEOUT):
            for port in self._ports.values():
                await self._listening(port)

    async def _listening(self, port: int) -> None:
        while True:
            if any(each.returncode is not None for each in self._plugins):
                raise PerennialError(
                    f"{PLUGIN} has ended; `aws ssm start-session` with the scheduler's instance"
                    " says why"
                )
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, port)
                writer.close()
                return
            await asyncio.sleep(LOOK)

    async def ended(self) -> None:
        """Wait until one of the sessions has ended."""
        waiting = [asyncio.create_task(each.wait()) for each in self._plugins]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def open(self, forward: Forward) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a place."""
        try:
            return await asyncio.open_connection(LOOPBACK, self._ports[forward.host, forward.port])
        except OSError as error:
            self._refusal = f"{PLUGIN} does not listen ({error.strerror or error})"
            raise

    def refusal(self) -> str:
        """Return why a place was not reached of late, and forget it."""
        said, self._refusal = self._refusal, ""
        return said

    async def close(self) -> None:
        """End the sessions."""
        await programs.end(self._plugins)


async def _proved(told: Mapping[str, str], places: Sequence[Endpoint]) -> list[str]:
    link = PortForwardLink(told)
    try:
        await link.begin(places)
    except (PerennialError, OSError, TimeoutError) as error:
        return [str(error) or f"no answer after {CONNECT_TIMEOUT:g} s"] * len(places)
    finally:
        await link.close()
    return [""] * len(places)


def _instance(aws: Aws, cluster: str) -> str:
    spec = deployed(cluster_state(cluster))
    for each in groups.instances(aws, spec):
        if each.key == SCHEDULER and each.is_up:
            return each.id
    raise PerennialError(f"{cluster}: no instance of the scheduler is in service")


def _session(aws: Aws, asked: Mapping[str, Any]) -> dict[str, str]:
    client = aws.client("ssm")
    told = aws.call(f"start a session with {asked['Target']}", client.start_session, **asked)
    return {key: told[key] for key in ("SessionId", "TokenValue", "StreamUrl")}


def _plugin() -> str:
    found = shutil.which(PLUGIN)
    if found is None:
        raise PerennialError(
            f"found no {PLUGIN} in PATH; install the Session Manager plugin of the AWS command line"
        )
    return found


def _free_port() -> int:
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        return int(held.getsockname()[1])
