"""Watches over real connections: what rings, and when everything may have changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3

from perennial.platforms.kubernetes import changes
from perennial.platforms.kubernetes.changes import Changes
from tests.homes import wait_until


class Server:
    """Serves a watch whose lines a test writes; ``None`` ends it."""

    def __init__(self) -> None:
        self.lines: Queue[bytes | None] = Queue()
        self.status, self.opened = 200, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.opened += 1
                self.send_response(outer.status)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while outer.status == 200 and (line := outer.lines.get()) is not None:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(self, **more: Any) -> Any:
        """List, or open a watch, as the client does, which raises where it is refused."""
        if "watch" not in more:
            return SimpleNamespace(metadata=SimpleNamespace(resource_version="7"))
        assert more["resource_version"] == "7"
        url = f"http://127.0.0.1:{self.server.server_port}/"
        answer = urllib3.PoolManager().request("GET", url, preload_content=False, retries=False)
        if answer.status != 200:
            raise OSError(answer.status)
        return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(changes, "PAUSE", 0.05)
    made = Server()
    yield made
    made.status = 403
    made.lines.put(None)
    made.server.shutdown()


def watched(server: Server) -> Changes:
    made = Changes((server.ask,))
    made.looked()
    assert made.possible, "whoever looks once has no watch"
    made.looked()
    wait_until(lambda: server.opened == 1)
    wait_until(lambda: quiet(made))
    return made


def quiet(made: Changes) -> bool:
    made.looked()
    return not made.possible


def test_what_happens_rings_and_a_bookmark_does_not(server: Server) -> None:
    made = watched(server)
    server.lines.put(b'{"type":"BOOKMARK","object":{}}\n{"type":"BOO')
    server.lines.put(b'KMARK","object":{}}\n')
    server.lines.put(None)  # read to its end
    wait_until(lambda: server.opened == 2)
    wait_until(lambda: quiet(made))
    server.lines.put(b'{"type":"MODIFIED","object":{}}\n')
    wait_until(lambda: made.possible)
    assert quiet(made)
    made.forget()
    assert made.possible


def test_a_watch_that_the_server_gives_up_is_opened_again_after_longer_pauses(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(server)
    monkeypatch.setattr(changes, "LONGEST", 1.0)
    begun = time.monotonic()
    for _ in range(4):
        server.lines.put(b'{"type":"ERROR","object":{"code":500}}\n')
        server.lines.put(None)
    wait_until(lambda: server.opened == 5)
    assert time.monotonic() > begun + 0.1 + 0.2 + 0.4


def test_without_a_watch_everything_may_have_changed(server: Server) -> None:
    made = watched(server)
    server.status = 403
    server.lines.put(None)
    wait_until(lambda: server.opened >= 2)
    made.looked()
    assert made.possible
    server.status = 200
    wait_until(lambda: quiet(made))


def test_the_truth_is_read_now_and_then(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(server)
    monkeypatch.setattr(changes, "OLDEST", -1.0)
    assert made.possible
