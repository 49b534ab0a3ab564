"""Containers of a task as processes: a metadata endpoint of ECS, a name server, a file system.

Each process has its own /tmp and /dev/shm, and its own resolv.conf: a mount namespace, which needs
root. What it runs is the entry point and the command of the task definition, with its environment.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Where the name server of the test answers; its port is that of all name servers.
NAME_SERVER = "127.0.86.53"
_MOUNTED = (
    'mount --bind "$0" /etc/resolv.conf && mount -t tmpfs tmpfs /tmp'
    ' && mount -t tmpfs tmpfs /dev/shm && exec "$@"'
)


@dataclass
class Names:
    """A name server: addresses by name, and how often each was asked for."""

    addresses: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def answer(self, query: bytes) -> bytes:
        """Answer a question for an A record, as RFC 1035 writes it."""
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name, kind = ".".join(labels).lower(), query[at + 1 : at + 3]
        question = query[12 : at + 5]
        self.asked[name] = self.asked.get(name, 0) + 1
        address = self.addresses.get(name)
        if address is None:
            return query[:2] + b"\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00" + question
        if kind != b"\x00\x01":  # it has no other addresses
            return query[:2] + b"\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00" + question
        packed = bytes(map(int, address.split(".")))
        record = b"\xc0\x0c\x00\x01\x00\x01" + (10).to_bytes(4, "big") + b"\x00\x04" + packed
        return query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question + record


@contextmanager
def names() -> Iterator[Names]:
    """Run a name server."""
    known = Names()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, out = self.request
            out.sendto(known.answer(data), self.client_address)

    with socketserver.ThreadingUDPServer((NAME_SERVER, 53), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield known
        server.shutdown()


@dataclass
class Task:
    """A task that runs: a process, and what ECS says of it."""

    id: str
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, patience: float = 60.0) -> int:
        """Stop it as ECS does: SIGTERM, and SIGKILL when it has not ended in time."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Machine:
    """Starts tasks, and answers what they ask ECS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Variables that ECS gives each container.
        self.given: dict[str, str] = {}
        self.tasks: dict[str, Task] = {}
        self._addresses: dict[str, str] = {}
        resolv = folder / "resolv.conf"
        resolv.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:2\n")
        self._resolv = resolv
        machine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, id_, *rest = self.path.split("/")
                told: dict[str, Any] = {"Networks": [{"IPv4Addresses": [machine._addresses[id_]]}]}
                if rest:
                    told = {"TaskARN": f"arn:aws:ecs:eu-central-1:1:task/lab/{id_}"}
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def run(
        self, task: Mapping[str, Any], address: str, secrets: Mapping[str, str], id_: str = ""
    ) -> Task:
        """Start the container of a task definition."""
        [container] = task["containerDefinitions"]
        id_ = id_ or uuid.uuid4().hex
        self._addresses[id_] = address
        environment = {each["name"]: each["value"] for each in container["environment"]}
        for each in container["secrets"]:
            environment[each["name"]] = json.dumps(secrets)
        log = self.folder / f"{id_}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [
                    *("unshare", "--mount", "sh", "-c", _MOUNTED),
                    str(self._resolv),
                    *container["entryPoint"],
                    *container["command"],
                ],
                env={
                    "PATH": os.environ["PATH"],
                    **self.given,
                    "ECS_CONTAINER_METADATA_URI_V4": (
                        f"http://127.0.0.1:{self._server.server_port}/{id_}"
                    ),
                    **environment,
                },
                cwd=Path(sys.executable).parent,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        started = Task(id_, address, process, log)
        self.tasks[id_] = started
        return started

    def close(self) -> None:
        """End everything."""
        for task in self.tasks.values():
            task.kill()
        self._server.shutdown()
        self._server.server_close()
