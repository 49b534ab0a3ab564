"""What the provider promises an engine that asks over gRPC; machines are this one, over sshd."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from pulumi.provider import Provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from perennial.errors import FleetError
from perennial.platforms.hosts import remote
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.machine_services import Target
from perennial.platforms.hosts.remote import Agent, borrowed
from perennial.stacks.provider.kinds import HalfMadeError, Kind, Made, Say
from perennial.stacks.provider.main import _KINDS as KINDS
from perennial.stacks.provider.servicer import Servicer
from perennial.stacks.provider.values import Values
from tests.ssh.sshd import MISSING, Place, make_place

CLUSTER = f"test-{os.getpid()}"
Stub = provider_pb2_grpc.ResourceProviderStub


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


class Together(Kind):
    """Is made when so many are being made."""

    type = "perennial:index:Together"

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number)

    def create(self, new: Values, say: Say) -> Made:
        self.barrier.wait(120)
        return Made("x", {})


def asked(kind: Kind, *questions: Callable[[Any], Any]) -> list[Any]:
    """Ask as the engine does, all at once; return the answers and errors."""
    return asyncio.run(_asked(kind, questions))


def create(kind: Kind, timeout: float = 0.0) -> Callable[[Any], Any]:
    urn = f"urn:pulumi:s::p::{kind.type}::x"
    return lambda stub: stub.Create(provider_pb2.CreateRequest(urn=urn, timeout=timeout))


async def _asked(kind: Kind, questions: Sequence[Callable[[Any], Any]]) -> list[Any]:
    server = grpc.aio.server()
    servicer = Servicer(Provider("1.0.0"), {kind.type: kind}, None, lambda: None)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [question(Stub(channel)) for question in questions]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await server.stop(None)
    return answers


def test_64_machines_are_worked_on_side_by_side() -> None:
    kind = Together(64)
    assert [answer.id for answer in asked(kind, *[create(kind)] * 64)] == ["x"] * 64


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_has_described_is_not_imported(kind: type[Kind]) -> None:
    request = provider_pb2.ReadRequest(id="lab", urn=f"urn:pulumi:s::p::{kind.type}::x")
    [error] = asked(kind(), lambda stub: stub.Read(request))
    assert error.details().startswith("lab: nothing of this package can be imported; `pulumi up`")


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.skipif(os.geteuid() != 0, reason="the login must be root's: there is no sudo")
@pytest.mark.timeout(300)
def test_what_is_not_done_in_time_stops_and_what_was_begun_is_kept(place: Place) -> None:
    target = Target("machine-b", "127.0.0.1", port=place.sshd.port)
    waits = Waits(target)
    with Agent(target) as first:
        first.ask("lock", cluster=CLUSTER)
        [error] = asked(waits, create(waits, 2.0))
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
    assert [answer.id for answer in asked(waits, create(waits, 60.0))] == ["x"]
    manifest.lock(CLUSTER).unlink()
