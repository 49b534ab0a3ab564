"""The process `pulumi-resource-perennial`, which Pulumi's engine starts and ends.

Its standard output has the port alone; whatever else is printed goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from importlib.metadata import version
from typing import Any

import grpc
from pulumi.provider import ConstructResult, Provider
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc

from .authority import Authority
from .certificate import Certificate
from .hosts import HostEnvironment, HostServices
from .kinds import Kind
from .local import LocalServices
from .servicer import Servicer

_KINDS: tuple[type[Kind], ...] = (
    *(Authority, Certificate),
    *(HostEnvironment, HostServices, LocalServices),
)


class Components(Provider):
    """Constructs components for programs in any language."""

    def __init__(self) -> None:
        super().__init__(version("dask-perennial"))

    def construct(
        self, name: str, resource_type: str, inputs: Any, options: Any = None
    ) -> ConstructResult:
        """Construct a component."""
        from ..components import construct

        return construct(name, resource_type, inputs, options)


def main() -> None:
    """Serve until the engine is gone, however it went."""
    parser = argparse.ArgumentParser(prog="pulumi-resource-perennial", description=__doc__)
    parser.add_argument("engine", nargs="?", help="address of Pulumi's engine")
    asked, _ = parser.parse_known_args()
    # What a library prints must not be read as the port.
    port, sys.stdout = sys.stdout, sys.stderr
    asyncio.run(_serve(asked.engine or "", port))


async def _serve(engine: str, port: Any) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    for ended in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(ended, done.set)
    channel = grpc.aio.insecure_channel(engine, _GRPC_CHANNEL_OPTIONS) if engine else None
    server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
    servicer = Servicer(
        Components(), {kind.type: kind() for kind in _KINDS}, channel, _cancel, engine
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    number = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    port.write(f"{number}\n")
    port.flush()
    if channel is not None:
        loop.create_task(_watch(channel, done))
    await done.wait()
    _cancel()
    # Threads that are in the middle of something are not waited for: it can be done again.
    os._exit(0)


async def _watch(channel: grpc.aio.Channel, done: asyncio.Event) -> None:
    """End this process when the engine is gone: it must not change machines beside the next one.

    A channel that is idle for half an hour is closed, and opened again here.
    """
    gone, was_there = grpc.ChannelConnectivity.TRANSIENT_FAILURE, False
    state = channel.get_state(try_to_connect=True)
    while not (was_there and state is gone) and state is not grpc.ChannelConnectivity.SHUTDOWN:
        was_there = was_there or state is grpc.ChannelConnectivity.READY
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    done.set()


def _cancel() -> None:
    from perennial import ssh

    ssh.cancel()
    ssh.close()
