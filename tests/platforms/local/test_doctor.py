"""The doctor's judgement of this machine; the whole of it runs in `test_cluster`."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from perennial.platforms.local.doctor import clock, scaler
from perennial.supervision import listening, single_instance
from tests.homes import wait_until
from tests.ports import free_ports

#: Answers each request on a port with a status and a body.
ANSWER = """
import http.server, sys
port, status, body = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def test_a_clock_that_stands_before_the_certificates(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.touch()
    os.utime(pem, (10_000, 10_000))
    assert clock(tmp_path, 10_000).level == "ok"
    assert clock(tmp_path, 6_400).level == "error"
    assert "3600 s behind" in clock(tmp_path, 6_400).text


class Squatter(http.server.BaseHTTPRequestHandler):
    """Another user's program that has taken the scaler's port while it was down."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"mode": "act"}')

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_whoever_has_the_scalers_port_is_not_believed(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Squatter) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found = scaler(server.server_port, tmp_path / "scaler.lock")
        server.shutdown()
        thread.join()
    assert found.level == "error"
    assert f"does not answer on its port {server.server_port}" in found.text


@pytest.mark.parametrize(
    ("status", "body", "level", "text"),
    [
        (200, b'{"mode": "act"}', "ok", "at work, mode act"),
        (200, b"[1]", "ok", "at work, mode unknown"),
        (503, b'{"reasons": ["no scheduler"]}', "error", "no scheduler; see"),
        (503, b'{"reasons": 7}', "error", "it does not say why; see"),
        (503, b"\xff[", "error", "it does not say why; see"),
    ],
)
def test_what_the_scaler_says(
    tmp_path: Path, status: int, body: bytes, level: str, text: str
) -> None:
    """A real process that holds the scaler's lock and answers on its port."""
    [port], lock = free_ports(1), tmp_path / "scaler.lock"
    program = (sys.executable, "-c", ANSWER, str(port), str(status), body.hex())
    held = (sys.executable, "-I", "-S", single_instance.__file__, str(lock), str(tmp_path / "log"))
    process = subprocess.Popen([*held, *program], start_new_session=True)
    try:
        wait_until(lambda: listening.is_of(lock, port))
        found = scaler(port, lock)
    finally:
        process.kill()
        process.wait()
    assert found.level == level
    assert found.text.startswith(text)
