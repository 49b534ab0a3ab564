"""The connection to supervisord."""

from __future__ import annotations

import gc
import socket
import warnings
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread

import pytest

from perennial.supervision.supervisor import Supervisor

ANSWER = (
    b"<?xml version='1.0'?><methodResponse><params><param><value><int>7</int></value></param>"
    b"</params></methodResponse>"
)


@pytest.mark.filterwarnings("error")
def test_no_socket_is_left_open() -> None:
    path = Path(mkdtemp(prefix="p-", dir="/tmp")) / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(ANSWER)}"
                connection.sendall(f"{head}\r\n\r\n".encode() + ANSWER)
                connection.recv(1)

        thread = Thread(target=answer)
        thread.start()
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            supervisor = Supervisor(path)
            assert supervisor.pid() == 7
            thread.join(10)  # it waits until the connection is closed
            assert not thread.is_alive()
            with pytest.MonkeyPatch.context() as patch:
                found: list[object] = []
                patch.setattr("sys.unraisablehook", found.append)
                del supervisor
                gc.collect()
                assert found == []
