"""What keeps a tunnel's connection: it goes on, or ends with an error. No bastion is needed."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from perennial.tunnel import forwarding
from perennial.tunnel.forwarding import Forwarder, Transport, main


class Broken:
    """A line that is lost as soon as it is there."""

    async def ended(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))


class Attempts:
    """Says what becomes of one attempt after another; the last one is waited for for ever."""

    name = remedy = ""

    def __init__(self, *results: Any) -> None:
        self._left = list(results)

    async def connect(self, _forwards: object) -> Any:
        if not self._left:
            os.kill(os.getpid(), 15)
            await asyncio.Event().wait()
        result = self._left.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def endpoints(self, _connection: object) -> list[forwarding.Endpoint]:
        return []

    def check(self, _places: object) -> list[str]:
        return []

    def cancel(self) -> None:
        pass


@pytest.fixture
def dialling(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Transport]:
    monkeypatch.setattr(forwarding, "_FIRST_PAUSE", 0.001)
    return Attempts


def test_an_error_of_the_system_is_said_and_tried_again(dialling: Callable[..., Transport]) -> None:
    transport = dialling(OSError(errno.ENOTCONN, "not connected"), Broken(), Broken())
    said: list[str | None] = []
    asyncio.run(Forwarder(transport, (), said.append).run())
    lost = "the connection was lost"
    assert said == [f"[Errno {errno.ENOTCONN}] not connected", None, lost, None, lost]


def test_a_full_disk_keeps_nobody_from_connecting_again(
    dialling: Callable[..., Transport], capsys: pytest.CaptureFixture[str]
) -> None:
    transport = dialling(Broken(), Broken())

    def tell(_fault: str | None) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    asyncio.run(Forwarder(transport, (), tell).run())
    logged = capsys.readouterr().out
    assert logged.count("the connection was lost; not written down: ") == 2
    assert "no space left" in logged


def test_what_ends_by_itself_ends_the_process(
    dialling: Callable[..., Transport], capsys: pytest.CaptureFixture[str]
) -> None:
    transport = dialling(ValueError("unforeseen"))
    said: list[str | None] = []
    assert main(transport, (), said.append) == 1
    fault = "the tunnel ended by itself: ValueError('unforeseen')"
    assert said == [fault]
    assert fault in capsys.readouterr().err
