"""Faults between a client of boto3 and AWS, by a seed: what a fleet must bear.

A call is throttled, fails with a 500, or takes effect and its answer is lost; a read tells what was
so a moment ago. botocore's own retries are at work, and do not wait.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session


@dataclass(frozen=True)
class Rates:
    """How often each befalls a call."""

    throttled: float = 0.1
    failed: float = 0.05
    lost: float = 0.1
    stale: float = 0.2


@dataclass
class Faults:
    """What befalls the calls of some clients."""

    random: random.Random
    rates: Rates = field(default_factory=Rates)
    on: bool = True
    #: How often each has happened.
    seen: dict[str, int] = field(default_factory=dict)
    #: The last answers to a question, oldest first.
    _answers: dict[str, list[Any]] = field(default_factory=dict)

    @contextmanager
    def befalling(self, client: Any) -> Iterator[None]:
        """Stand between a client and its endpoint."""
        event = f"before-send.{client.meta.service_model.service_id.hyphenize()}"
        client.meta.events.register_first(event, self._sent)
        try:
            yield
        finally:
            client.meta.events.unregister(event, self._sent)

    def _sent(self, request: Any, event_name: str, **_: Any) -> Any:
        operation = event_name.rpartition(".")[2]
        kind = self._kind(reads=operation.startswith(("Describe", "List")))
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if kind == "throttled":
            return _error(request, 400, "ThrottlingException")
        if kind == "failed":
            return _error(request, 500, "InternalFailure")
        answer = _through(request)
        if kind == "lost":
            raise ReadTimeoutError(endpoint_url=request.url)
        before = self._answers.setdefault(f"{operation} {request.body!r}", [])
        before.append(answer)
        del before[:-2]
        return self.random.choice(before) if kind == "stale" else answer

    def _kind(self, reads: bool) -> str:
        if not self.on:
            return "answered"
        rates = self.rates
        kinds = {"throttled": rates.throttled, "failed": rates.failed, "lost": rates.lost}
        if reads:
            kinds["stale"] = rates.stale
        kinds["answered"] = 1 - sum(kinds.values())
        return self.random.choices([*kinds], [*kinds.values()])[0]


_SESSION = URLLib3Session()


class _Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._content


def _through(request: Any) -> AWSResponse:
    answer = _SESSION.send(request)
    return AWSResponse(request.url, answer.status_code, answer.headers, _Raw(answer.content))


def _error(request: Any, status: int, code: str) -> AWSResponse:
    form = b"x-www-form-urlencoded" in str(request.headers.get("Content-Type")).encode()
    text = f'{{"__type": "{code}", "message": "by the test"}}'
    if form:
        inner = (
            f"<Error><Type>Sender</Type><Code>{code}</Code><Message>by the test</Message></Error>"
        )
        text = f"<ErrorResponse>{inner}<RequestId>0</RequestId></ErrorResponse>"
    return AWSResponse(request.url, status, {}, _Raw(text.encode()))


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let botocore try again at once."""
    clock = SimpleNamespace(sleep=lambda _: None)
    with patch("botocore.endpoint.time", clock):
        yield
