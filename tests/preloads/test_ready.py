"""What systemd hears from real Dask processes, on a real notification socket."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import NO_PAGES, free_port
from tests.preloads.conftest import DRAIN, KEEP, Lab, until

#: Twice as often is a sign of life asked for.
WATCHDOG = 0.5


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, channel: socket.socket, name: str) -> None:
        self.channel = channel
        self.environment = {
            "NOTIFY_SOCKET": name,
            "WATCHDOG_USEC": str(int(WATCHDOG * 1e6)),
        }

    def heard(self) -> list[str]:
        """Everything that has arrived since the last call, line by line."""
        lines: list[str] = []
        while True:
            try:
                lines += self.channel.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines

    def waits_for(self, line: str, seconds: float = 30) -> list[str]:
        """Everything up to and with the first message that has the line."""
        lines: list[str] = []

        def arrived() -> bool:
            lines.extend(self.heard())
            return line in lines

        until(arrived, line, seconds)
        return lines


@contextmanager
def listening(address: str) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address.replace("@", "\0"))
        channel.setblocking(False)
        yield Manager(channel, address)


def test_the_scheduler_is_ready_alive_and_stopping(lab: Lab) -> None:
    with listening(str(lab.folder / "notify")) as manager:
        scheduler = lab.start(
            "scheduler",
            *("scheduler", "--host", "127.0.0.1", "--port", str(lab.port), *NO_PAGES),
            *("--preload", "perennial.preloads.ready"),
            **manager.environment,
        )
        lines = manager.waits_for("READY=1")
        assert lab.answers()
        assert lines == ["READY=1", "STATUS=0 workers, 0 tasks"]
        client = lab.client()
        manager.heard()
        time.sleep(3 * WATCHDOG)
        assert 2 <= manager.heard().count("WATCHDOG=1") <= 8
        hang = threading.Thread(target=client.run_on_scheduler, args=(time.sleep, 2.5))
        hang.start()
        time.sleep(0.5)
        manager.heard()
        time.sleep(2 * WATCHDOG)
        assert manager.heard() == []  # the event loop hangs, so systemd would restart it
        hang.join()
        manager.waits_for("WATCHDOG=1")
        scheduler.terminate()
        manager.waits_for("STOPPING=1")
        assert scheduler.wait(20) == 0


def test_workers_are_ready_once_all_have_registered(lab: Lab) -> None:
    with listening(f"@perennial-{os.getpid()}-{lab.port}") as manager:
        preloads = (*DRAIN, "--preload-nanny", "perennial.preloads.ready", *KEEP)
        process = lab.worker("pair", "--nworkers", "2", *preloads, **manager.environment)
        time.sleep(1)
        assert manager.heard() == []  # there is no scheduler to register with yet
        lab.scheduler("--preload", "perennial.preloads.ready")  # and nobody to tell
        lab.worker("stays")
        manager.waits_for("READY=1")
        client = lab.client()
        client.wait_for_workers(3, timeout=60)
        assert lab.log("pair").count("Registered to:") == 2
        future = client.submit(time.sleep, 2, workers=["pair-0"], allow_other_workers=True)
        until(lambda: any(client.processing().values()), "the task has begun")
        manager.heard()
        process.terminate()
        manager.waits_for("STOPPING=1")
        assert process.wait(30) == 0
        assert manager.heard().count("WATCHDOG=1") >= 2  # while it drains
        assert future.result(timeout=10) is None
        assert "NOTIFY_SOCKET" not in lab.log("scheduler")


def test_a_scheduler_whose_dashboard_port_is_taken_ends_and_says_so(lab: Lab) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        scheduler = lab.start(
            "scheduler",
            *("scheduler", "--host", "127.0.0.1", "--port", str(lab.port)),
            *("--dashboard-address", f"127.0.0.1:{port}", "--no-dashboard"),
            *("--preload", "perennial.preloads.ready"),
        )
        assert scheduler.wait(60) == 1
    assert f"dashboard: port {port} is taken by another process" in lab.log("scheduler")


def test_a_scheduler_gets_the_dashboard_port_that_is_free(lab: Lab) -> None:
    port = free_port()
    where = ("--dashboard-address", f"127.0.0.1:{port}")
    scheduler = lab.scheduler(*where, "--preload", "perennial.preloads.ready")
    until(lambda: b"200" in _get(port), "the dashboard answers")
    assert scheduler.poll() is None


def _get(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        return connection.recv(64)
