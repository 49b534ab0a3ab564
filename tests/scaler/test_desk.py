"""Requests and reports of a scaler whose scheduler keeps none: over its pages, on loopback."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection
from typing import Any

import pytest

from perennial.scaler import desk, scaler_client
from perennial.scaler.desk import LARGEST, Desk
from perennial.scaler.metrics import Pages

STATE: dict[str, Any] = {"groups": {}}


def asked(port: int, question: str, words: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Ask as within the pod."""
    assert desk.main([str(port), question, json.dumps(words)]) == 0
    return json.loads(capsys.readouterr().out)


def status(port: int, kind: str, body: bytes, path: str = "/wish") -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body, {"Content-Type": kind})
    found = connection.getresponse().status
    connection.close()
    return found


def test_requests_are_kept_until_they_are_taken_up(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        kept = Desk()
        pages = Pages(0, lambda: STATE, lambda: 0.0, kept)
        ask = asyncio.to_thread
        try:
            early = await ask(asked, pages.port, "wish", {"kind": "pause"}, capsys)
            assert "has not looked at its release yet" in early["error"]
            assert kept.taken(None, ()) == []

            waiting = asyncio.create_task(kept.news(30))
            await asyncio.sleep(0)
            name = (await ask(asked, pages.port, "wish", {"kind": "pause"}, capsys))["answer"]
            assert await waiting, "a request is news"
            assert not await kept.news(0.01)
            report = {"time": 1.0, "groups": {"worker": {"time": 1.0, "asked": 2}}}
            [wish] = kept.taken(report, ())
            assert (wish["id"], wish["kind"]) == (name, "pause")
            assert kept.taken(None, [name]) == []

            told = (await ask(asked, pages.port, "report", None, capsys))["answer"]
            assert told["report"] == report
            assert told["fields"][:1] == ["time"]
            refused = await ask(asked, pages.port, "wish", {"kind": "nonsense"}, capsys)
            assert "allowed: pin" in refused["error"]
            assert "/report" in (await ask(asked, pages.port, "other", None, capsys))["error"]
        finally:
            pages.close()

    asyncio.run(run())


def test_what_a_page_in_a_browser_could_send_is_refused() -> None:
    pages = Pages(0, lambda: STATE, lambda: 0.0, Desk())
    none = Pages(0, lambda: STATE, lambda: 0.0)
    try:
        body = json.dumps({"kind": "pause"}).encode()
        assert status(pages.port, "text/plain", body) == 404
        assert status(pages.port, "application/json", b" " * (LARGEST + 1)) == 404
        assert status(pages.port, "application/json", b"no JSON") == 400
        assert status(none.port, "application/json", body) == 404, "its scheduler keeps them"
    finally:
        pages.close()
        none.close()


def test_whoever_does_not_answer_is_said_in_a_line() -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    with pytest.raises(Exception, match=r"lab: the scaler has not answered within 0\.01 s"):
        asyncio.run(scaler_client.within(0.01, never(), "lab"))
