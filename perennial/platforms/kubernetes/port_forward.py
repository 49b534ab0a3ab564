"""`perennial connect --port-forward`: connections to a cluster's pods through the API server.

Each connection is a WebSocket of its own to the pod that is ready at that time, so that a pod
which is replaced, or an API server which restarts, ends what went through it and nothing else.
`kubectl port-forward` holds on to one pod and ends with it. The official client's own `portforward`
keeps in memory what the other side does not take, and leaves connections open when the API
server resets them. Tornado, which is Dask's own, waits for the other side and asks whether it is
still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.client import Api, ApiError, is_ready, kubeconfig_here, labelled
from perennial.platforms.kubernetes.parts import scheduler_host
from perennial.stacked import deployed
from perennial.tunnel.bastion import endpoints_of
from perennial.tunnel.forwarding import CONNECT_TIMEOUT, Endpoint, Forward

if TYPE_CHECKING:
    from perennial.connect import Connection

#: What is spoken in the WebSocket: a byte that says the channel, then its data.
PROTOCOL = "v4.channel.k8s.io"
DATA, FAULT = 0, 1
CHUNK = 65_536
LARGEST = 2**24
#: Seconds between two looks at whether the API server answers, or a pod is ready.
LOOK, READY = 30.0, 1.0
#: Seconds between two questions whether the other side is there; it may take as long.
PING = 15.0
#: What says whether the caller may do it, as API group, resource and verb.
RIGHTS = (("", "pods", "list"), ("", "pods/portforward", "get"), ("", "pods/portforward", "create"))
#: Parts of a cluster that have a Service.
SERVED = ("scheduler", "jupyter")


class PortForward:
    """Connects to pods through the API server."""

    #: What has to be right there.
    remedy = "whether you may `get` and `create` pods/portforward in its namespace"

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = told
        self.name = f"the API server of the context {told['context'] or 'in-cluster'}"

    @staticmethod
    def words(told: Mapping[str, str]) -> str:
        """Say which way it is."""
        return f"port-forward by the context {told['context'] or 'in-cluster'}"

    @staticmethod
    def reaching(connection: Connection) -> dict[str, str] | None:
        """Say how a cluster is reached; None where its address is none of a Service."""
        service, _, rest = (urlsplit(connection.scheduler_address).hostname or "").partition(".")
        namespace, _, suffix = rest.partition(".")
        if suffix != "svc" or service != names.name_of(connection.cluster, "scheduler"):
            return None
        kubeconfig, context = current()
        dashboard = ""
        with contextlib.suppress(PerennialError, OSError):
            dashboard = str(deployed(cluster_state(connection.cluster)).scheduler.dashboard_port)
        return {
            "cluster": connection.cluster,
            "namespace": namespace,
            "kubeconfig": kubeconfig,
            "context": context,
            "dashboard": dashboard,
        }

    def endpoints(self, connection: Connection) -> list[Endpoint]:
        """Name the Services, and the dashboard's port in the scheduler's pod."""
        own = [(host, port) for host, port in endpoints_of(connection) if self._part(host)]
        dashboard = self._told["dashboard"]
        host = scheduler_host(self._told["cluster"], self._told["namespace"])
        return [*own, *([(host, int(dashboard))] if dashboard else [])]

    async def connect(self, _forwards: Sequence[Forward]) -> PortForwardLink:
        """Ask the API server for the pods, by the kubeconfig as it is now."""
        line = await asyncio.to_thread(self._line)
        await line.pods("scheduler")
        return line

    def check(self, places: Sequence[Endpoint]) -> list[str]:
        """Connect once to each place."""

        async def proved() -> list[str]:
            line = await asyncio.to_thread(self._line)
            return [await line.proved(host, port) for host, port in places]

        return asyncio.run(proved())

    def cancel(self) -> None:
        """End what keeps `connect` waiting: it has its own timeout."""

    def _line(self) -> PortForwardLink:
        return PortForwardLink(Api(self._told["kubeconfig"], self._told["context"]), self._told)

    def _part(self, host: str) -> str:
        return part_of(host, self._told)


class PortForwardLink:
    """The API server that answers."""

    def __init__(self, api: Api, told: Mapping[str, str]) -> None:
        self._api = api
        self._told = told
        self._refusal = ""
        self._running: set[asyncio.Task[None]] = set()

    async def ended(self) -> None:
        """Wait until the API server does not answer; connections that stand may go on."""
        with contextlib.suppress(ApiError):
            while True:
                await asyncio.sleep(LOOK)
                await self.pods("scheduler")

    async def open(self, forward: Forward) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the pod that is ready; wait until one is."""
        part = part_of(forward.host, self._told)
        while not (pods := await self.pods(part)):
            self._refusal = f"no pod of {part} is ready"
            await asyncio.sleep(READY)
        try:
            far = await self._websocket(pods[0], forward.port)
        except PerennialError as error:
            self._refusal = str(error)
            raise ConnectionRefusedError(str(error)) from None
        ours, theirs = socket.socketpair()
        ends = await asyncio.open_connection(sock=theirs)
        task = asyncio.create_task(self._pump(far, *ends))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.open_connection(sock=ours)

    def refusal(self) -> str:
        """Return why a place was not reached of late, and forget it."""
        said, self._refusal = self._refusal, ""
        return said

    async def close(self) -> None:
        """Keep what stands: it ends by itself when one of its ends does."""

    async def pods(self, part: str) -> list[str]:
        """List the pods of a part that are ready, the newest first."""
        selector = {**names.selector(self._told["cluster"], part)}
        listed = await asyncio.to_thread(
            self._api.call,
            f"list the pods of {self._told['cluster']}",
            self._api.core.list_namespaced_pod,
            self._told["namespace"],
            label_selector=labelled(selector),
        )
        ready = [each for each in listed.items if is_ready(each)]
        alive = [each for each in ready if each.metadata.deletion_timestamp is None]
        alive.sort(key=lambda each: each.metadata.creation_timestamp, reverse=True)
        return [str(each.metadata.name) for each in alive]

    async def proved(self, host: str, port: int) -> str:
        """Connect once; empty where that goes well."""
        part = part_of(host, self._told)
        pods = await self.pods(part)
        if not pods:
            return f"no pod of {part} is ready"
        try:
            (await self._websocket(pods[0], port)).close()
        except PerennialError as error:
            return str(error)
        return ""

    async def _websocket(self, pod: str, port: int) -> Any:
        """Ask for a port of a pod."""
        from tornado.httpclient import HTTPClientError, HTTPRequest
        from tornado.websocket import websocket_connect

        what = f"forward port {port} of {pod}"
        try:
            url, headers, context = await asyncio.to_thread(self._request, pod, port)
            return await websocket_connect(
                HTTPRequest(
                    url, headers=headers, ssl_options=context, connect_timeout=CONNECT_TIMEOUT
                ),
                ping_interval=PING,
                ping_timeout=PING,
                max_message_size=LARGEST,
                subprotocols=[PROTOCOL],
            )
        except HTTPClientError as error:
            raise ApiError(f"cannot {what}: {_reason(error)}", int(error.code)) from None
        except OSError as error:
            reason = error.strerror or error
            raise ApiError(f"cannot {what}: the API server does not answer ({reason})", 0) from None

    def _request(self, pod: str, port: int) -> tuple[str, dict[str, str], ssl.SSLContext | None]:
        """Write the request as the kubeconfig wants it; a login may have to be renewed."""
        known = self._api.core.api_client.configuration
        if known.proxy or known.tls_server_name:
            raise PerennialError(
                "the kubeconfig has a proxy-url or a tls-server-name, which --port-forward does not"
                " know; use `kubectl port-forward`, see the guide to Kubernetes"
            )
        headers = {each["key"]: each["value"] for each in known.auth_settings().values()}
        server = urlsplit(known.host)
        space = self._told["namespace"]
        path = f"{server.path.rstrip('/')}/api/v1/namespaces/{space}/pods/{pod}/portforward"
        encrypted = server.scheme == "https"
        scheme, query = "wss" if encrypted else "ws", urlencode({"ports": port})
        url = urlunsplit((scheme, server.netloc, path, query, ""))
        return url, headers, _context(known) if encrypted else None

    async def _pump(
        self, far: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry data both ways until one end is closed."""
        down = asyncio.create_task(self._down(far, writer))
        up = asyncio.create_task(_up(far, reader))
        try:
            await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            far.close()
            for task in (down, up):
                task.cancel()
            await asyncio.gather(down, up, return_exceptions=True)
            writer.close()

    async def _down(self, far: Any, writer: asyncio.StreamWriter) -> None:
        """Carry from the pod; the first of each channel is its port's number."""
        begun: set[int] = set()
        while (frame := await far.read_message()) is not None:
            channel = frame[0]
            if channel not in begun:
                begun.add(channel)
            elif channel == DATA:
                writer.write(frame[1:])
                await writer.drain()
            elif channel == FAULT:
                self._refusal = " ".join(frame[1:].decode(errors="replace").split())
                return


def part_of(host: str, told: Mapping[str, str]) -> str:
    """Say which part of the cluster a host stands for; empty for a host of somebody else."""
    by_host = {
        f"{names.name_of(told['cluster'], part)}.{told['namespace']}.svc": part for part in SERVED
    }
    return by_host.get(host, "")


async def _up(far: Any, reader: asyncio.StreamReader) -> None:
    """Carry to the pod."""
    while data := await reader.read(CHUNK):
        await far.write_message(bytes([DATA]) + data, binary=True)


def current() -> tuple[str, str]:
    """Return where the kubeconfig is, and its context: the process goes on when that changes."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "", ""
    Api()  # says what is wrong with it
    from kubernetes import config

    file = kubeconfig_here()
    _, active = config.list_kube_config_contexts(file)
    return file, str(active["name"])


def _context(known: Any) -> ssl.SSLContext:
    """Trust and log in as the kubeconfig says."""
    context = ssl.create_default_context(cafile=known.ssl_ca_cert)
    if not known.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if known.cert_file:
        context.load_cert_chain(known.cert_file, known.key_file)
    return context


def _reason(error: Any) -> str:
    """Read why the API server refuses."""
    try:
        return str(json.loads(error.response.body)["message"])
    except (AttributeError, TypeError, ValueError, KeyError):
        return str(error)
