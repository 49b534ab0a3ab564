"""What a scheduler's pages say is believed only where it has the form that it should have."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from perennial import fetching
from perennial.fetching import get
from perennial.pages import Worker, counts_of, parsed, workers_of
from perennial.unix import UnixConnection

NUMBERS = dict.fromkeys(
    (
        *("workers", "cores", "clients", "tasks", "processing", "waiting", "memory", "erred"),
        *("unrunnable", "bytes"),
    ),
    3,
)
WRONG: list[Any] = [None, "", [], {}, "many", float("inf"), float("nan"), 2**70, [1], {"a": 1}]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: str(type(value)))
def test_numbers_that_are_none(wrong: Any) -> None:
    assert counts_of(NUMBERS, {}) is not None
    for key in NUMBERS:
        assert counts_of({**NUMBERS, key: wrong}, {}) is None
    assert counts_of({}, {}) is None
    assert counts_of(NUMBERS, {"clients": wrong}) is None


@pytest.mark.parametrize("wrong", [*WRONG, {"a": {"name": ["x"]}}, {"a": {"name": None}}, {"a": 1}])
def test_workers_that_are_none(wrong: Any) -> None:
    assert workers_of({"workers": wrong}) == []


def test_workers_beside_others_that_are_none() -> None:
    page = {
        "a": {"name": "cpu-0", "status": "running", "actors": 2},
        "b": {"name": 7},  # Dask's own LocalCluster numbers its workers
        "c": {"name": "cpu-1", "status": None, "actors": "many"},
        "d": {"name": "cpu-2", "actors": -1},
    }
    assert workers_of({"workers": page}) == [
        Worker("cpu-0", "running", 2),
        Worker("7"),
        Worker("cpu-1", "None"),
        Worker("cpu-2"),
    ]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"[" * 200_000, b"\xff\xfe", None])
def test_a_page_that_is_no_object(body: bytes | None) -> None:
    assert parsed(body) == {}


@contextmanager
def serving(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[UnixConnection]:
    """Somebody who answers one request in their own way."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                try:
                    answer(connection)
                except OSError:  # whoever asked has hung up
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield UnixConnection(str(path), 5.0)
        thread.join(60)
        assert not thread.is_alive()


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.2)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nA: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.2)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 2**16)


@pytest.mark.parametrize("answer", [drip, drip_headers, flood])
def test_a_page_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 3.0)
    monkeypatch.setattr(fetching, "LONGEST", 2**20)
    with serving(tmp_path / "s", answer) as connection:
        assert get(connection, "/health") is None


def test_a_page_with_an_end(tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with serving(tmp_path / "s", answer) as connection:
        assert get(connection, "/health") == b"ok"


def test_nobody_there(tmp_path: Path) -> None:
    assert get(UnixConnection(str(tmp_path / "s"), 1.0), "/health") is None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert get(HTTPConnection("127.0.0.1", taken.getsockname()[1], timeout=1), "/") is None
