"""Requests and reports at the scaler itself, where its scheduler has no preload to keep them.

Asked by ``python -m perennial.scaler.desk PORT QUESTION [JSON]`` from within its pod: its pages
listen on loopback alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection, Mapping
from http.client import HTTPConnection
from typing import Any

from perennial.preloads.channel import Channel
from perennial.preloads.messages import Request
from perennial.preloads.notifier import Notifier
from perennial.scaler import timing

#: The largest question, in bytes.
LARGEST = 10_000


class Desk:
    """Keeps what people ask of the scaler, and what it has said. Lives in the scaler's loop."""

    def __init__(self) -> None:
        self.channel = Channel()
        self._news = Notifier()
        self._loop: asyncio.AbstractEventLoop | None = None

    def taken(
        self, report: Mapping[str, Any] | None, acknowledged: Collection[str]
    ) -> list[Request]:
        """Keep a report, forget the requests that were taken up, and give the others."""
        self._loop = asyncio.get_running_loop()
        self.channel.acknowledge(acknowledged)
        if report is not None:
            self.channel.take_report(report)
        return list(self.channel.requests.values())

    async def news(self, seconds: float) -> bool:
        """Wait for a request; return whether there is one."""
        known = self._news.count
        return await self._news.wait(known, seconds) != known

    def answer(self, question: str, words: Any) -> Any:
        """Answer a question that came to another thread; raise ValueError for what is none."""

        async def answered() -> Any:
            if question == "report":
                return self.channel.latest(words)
            name = self.channel.take_request(words)
            self._news.notify()
            return name

        if self._loop is None:
            raise ValueError("the scaler has not looked at its release yet; ask again in a moment")
        return asyncio.run_coroutine_threadsafe(answered(), self._loop).result(timing.SCALER_ANSWER)


def main(arguments: list[str]) -> int:
    """Ask the scaler on a port of loopback; print the answer."""
    port, question, words = arguments
    connection = HTTPConnection("127.0.0.1", int(port), timeout=timing.SCALER_ANSWER)
    connection.request("POST", f"/{question}", words, {"Content-Type": "application/json"})
    print(connection.getresponse().read().decode())
    return 0


def answered(desk: Desk, path: str, body: bytes) -> tuple[int, str]:
    """Answer a request to the pages: the status, and JSON."""
    if path not in ("/report", "/wish"):
        return 404, json.dumps({"error": "/report, /wish"})
    try:
        return 200, json.dumps({"answer": desk.answer(path[1:], json.loads(body or b"null"))})
    except ValueError as error:
        return 400, json.dumps({"error": str(error)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
