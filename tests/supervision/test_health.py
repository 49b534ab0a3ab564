"""The health listener: its judgement, and the rotation of logs."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

from perennial.supervision.health import START, Watchdog, answers, rotate
from perennial.unix import short


def test_a_process_that_answers_never_hangs() -> None:
    watchdog = Watchdog(60.0)
    assert not any(watchdog.hung(7, True, float(now)) for now in range(0, 10_000, 5))


def test_hung_after_the_limit_and_not_before() -> None:
    watchdog = Watchdog(60.0)
    watchdog.hung(7, True, 100.0)
    assert not watchdog.hung(7, False, 159.0)
    assert watchdog.hung(7, False, 160.0)
    # Events that had queued up meanwhile do not have it killed again.
    assert not watchdog.hung(7, False, 160.0)


def test_a_new_process_has_time_to_start() -> None:
    watchdog = Watchdog(60.0)
    watchdog.hung(7, True, 0.0)
    assert not watchdog.hung(8, False, 1000.0)
    assert not watchdog.hung(8, False, 1000.0 + START - 1)
    assert watchdog.hung(8, False, 1000.0 + START)


def test_no_process_and_no_limit_never_hang() -> None:
    assert not Watchdog(60.0).hung(0, False, 1e9)
    watchdog = Watchdog(0.0)
    watchdog.hung(7, True, 0.0)
    assert not watchdog.hung(7, False, 1e9)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


class Server(UnixStreamServer):
    def get_request(self) -> Any:
        request, _ = super().get_request()
        return request, ("client", 0)


def test_answers(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 120) / "http"  # longer than a socket's address may be
    path.parent.mkdir()
    with short(str(path)) as address:
        server = Server(address, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert answers([str(path)])
    server.shutdown()
    # It still accepts, as a process that was stopped does, but nobody answers.
    assert not answers([str(path)], timeout=0.5)
    server.server_close()
    assert not answers([str(path)], timeout=0.5)


def test_rotation_keeps_what_was_written_and_the_open_file_stays_right(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as log:
        for number in range(4):
            log.write(b"x" * 100 + str(number).encode())
            rotate(str(tmp_path), maxbytes=50, backups=2)
        log.write(b"new")
    assert path.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 100 + b"3"
    assert (tmp_path / "a.log.2").read_bytes() == b"x" * 100 + b"2"
    assert not (tmp_path / "a.log.3").exists()
    rotate(str(tmp_path), maxbytes=50, backups=2)
    assert path.read_bytes() == b"new"
