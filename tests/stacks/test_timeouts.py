"""Custom timeouts: what is not done in time stops, over a real sshd to this machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from pulumi.provider import Provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from perennial.errors import FleetError
from perennial.platforms.hosts import remote
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.remote import Agent, borrowed
from perennial.platforms.hosts.share import Target
from perennial.stacks.provider.kinds import HalfMadeError, Kind, Made, Say
from perennial.stacks.provider.servicer import Servicer
from perennial.stacks.provider.values import Values
from tests.ssh.sshd import MISSING, Place, make_place

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.skipif(os.geteuid() != 0, reason="the login must be root's: there is no sudo"),
]
CLUSTER = f"test-{os.getpid()}"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)
    remote.close()


class Waits(Kind):
    """Waits for the lock of a machine."""

    type = "perennial:index:Waits"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ended = threading.Event()

    def create(self, new: Values, say: Say) -> Made:
        made = Made("x", {"drift": ["half of it"]})
        try:
            with borrowed(self.target, say) as agent:
                agent.ask("lock", cluster=CLUSTER)
        except FleetError as error:
            raise HalfMadeError(made, str(error)) from None
        finally:
            self.ended.set()
        return made


async def created(kind: Waits, timeout: float) -> Any:
    """Ask for one as the engine does; return its answer, or the error."""
    server = grpc.aio.server()
    servicer = Servicer(Provider("1.0.0"), {kind.type: kind}, None, lambda: None)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    request = provider_pb2.CreateRequest(urn=f"urn:pulumi:s::p::{kind.type}::x", timeout=timeout)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            return await provider_pb2_grpc.ResourceProviderStub(channel).Create(request)
        except grpc.aio.AioRpcError as error:
            return error
        finally:
            await server.stop(None)


@pytest.mark.timeout(300)
def test_what_is_not_done_in_time_stops_and_what_was_begun_is_kept(place: Place) -> None:
    target = Target("machine-b", "127.0.0.1", port=place.sshd.port)
    waits = Waits(target)
    with Agent(target) as first:
        first.ask("lock", cluster=CLUSTER)
        error = asyncio.run(created(waits, 2.0))
        assert error.details() == "not done within 2 s, its custom timeout; run the same again"
        # Nothing goes on behind the engine's back, and the engine remembers what was begun.
        assert waits.ended.is_set()
        [detail] = [
            status_pb2.Status.FromString(value).details[0]
            for key, value in error.trailing_metadata()
            if key == "grpc-status-details-bin"
        ]
        half = provider_pb2.ErrorResourceInitFailed()
        assert detail.Unpack(half)
        assert (half.id, half.properties["drift"][0]) == ("x", "half of it")
        first.ask("unlock")
    assert asyncio.run(created(waits, 60.0)).id == "x"
    manifest.lock(CLUSTER).unlink()
