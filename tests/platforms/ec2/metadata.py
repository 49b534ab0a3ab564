"""An instance's metadata, version 2: ``python -m tests.platforms.ec2.metadata FOLDER HOST PORT``.

What it says stands in files of the folder, by the paths of the metadata; a test writes and removes
them. Without a token it answers 401, as an instance does that requires one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "AQAEA-token"
INSTANCE = "i-0a1b2c3d4e5f60718"
ROLE = "perennial-lab-cpu"
CREDENTIALS = (
    '{"Code": "Success", "AccessKeyId": "ASIAINSTANCE00000000", "SecretAccessKey": "secret",'
    ' "Token": "session-token"}'
)


def describe(folder: Path, address: str, state: str = "InService") -> None:
    """Write what every instance knows of itself."""
    data = {
        "instance-id": INSTANCE,
        "local-ipv4": address,
        "placement/region": "eu-central-1",
        "services/domain": "amazonaws.com",
        "iam/security-credentials/.index": ROLE,
        f"iam/security-credentials/{ROLE}": CREDENTIALS,
        "autoscaling/target-lifecycle-state": state,
    }
    for path, text in data.items():
        say(folder, path, text)


def say(folder: Path, path: str, text: str) -> None:
    """Have the metadata say something from now on."""
    target = folder / "latest/meta-data" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.new")
    beside.write_text(text)
    beside.replace(target)


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_PUT(self) -> None:
        if (
            self.path == "/latest/api/token"
            and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        ):
            return self._answer(200, TOKEN)
        return self._answer(400, "")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != TOKEN:
            return self._answer(401, "")
        place = self.folder / self.path.lstrip("/")
        place = place / ".index" if self.path.endswith("/") else place
        return self._answer(200, place.read_text()) if place.is_file() else self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Make a server; it does not serve yet."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    return ThreadingHTTPServer((host, port), handler)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve from a thread of this process; give the URL."""
    made = server(folder, "127.0.0.1", 0)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


if __name__ == "__main__":
    server(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])).serve_forever()
