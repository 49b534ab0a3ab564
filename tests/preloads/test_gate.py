"""Who is let in to the scheduler's pages: on a real scheduler, from outside."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.config
import pytest
import websocket
from distributed.dashboard.scheduler import applications
from distributed.http.utils import get_handlers

from perennial.pages import counts_of, socket_of, token_of
from perennial.unix import UnixConnection
from tests.homes import wait_until
from tests.jupyterlab import gate, process
from tests.ports import free_port

SOCKET_PAGE = "/status/ws"
PRELOADS = ["--preload", "perennial.preloads.page", "--preload", "perennial.preloads.roster"]


@dataclass(frozen=True)
class Pages:
    """A scheduler's pages."""

    folder: Path
    port: int

    @property
    def token(self) -> str:
        return Path(token_of(str(self.folder))).read_text()

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(self, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()

    def status(self, path: str, **headers: str) -> int:
        return self.ask(path, **headers).status

    def within(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """Ask on the socket, as JupyterLab and our own commands do."""
        connection = UnixConnection(socket_of(str(self.folder)), 60)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()

    def opens(self, **options: Any) -> bool:
        """Whether the websocket of a page opens, over which all it shows comes."""
        url = f"ws://127.0.0.1:{self.port}{SOCKET_PAGE}"
        try:
            websocket.create_connection(
                url, timeout=60, subprotocols=["bokeh"], redirect_limit=-1, **options
            ).close()
        except websocket.WebSocketBadStatusException as error:
            if error.status_code != 403:
                raise
            return False
        except websocket.WebSocketException:
            return True  # it was let in, and names a protocol that Bokeh alone knows
        return True


@contextmanager
def serving(root: Path, **more: Any) -> Iterator[Pages]:
    port = free_port()
    listen = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", f"127.0.0.1:{port}"]
    argv = [sys.executable, "-m", "dask", "scheduler", *listen, *gate(root, **more), *PRELOADS]
    log = root / "scheduler.log"
    with process(argv, log, DASK_CONFIG=str(root / "gate.yaml")):
        found = Pages(root / "pages", port)
        wait_until(lambda: Path(socket_of(str(found.folder))).exists())
        wait_until(lambda: "Scheduler at" in log.read_text())
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    # So long a path does not fit into a socket's address.
    with serving(tmp_path_factory.mktemp("a" * 120)) as found:
        yield found


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    told = {"address": "::1", "names": ["machine-a.example.org"]}
    with serving(tmp_path_factory.mktemp("open"), open=told) as found:
        yield found


def test_the_numbers_are_read_beside_the_scheduler(pages: Pages) -> None:
    argv = [sys.executable, "-P", "-m", "perennial.counts_page"]
    socket_path = socket_of(str(pages.folder))
    said = subprocess.run([*argv, socket_path], capture_output=True, timeout=60, check=True).stdout
    counts = counts_of(*json.loads(said))
    assert counts is not None
    assert (counts.workers, counts.clients) == (0, 0)
    argv.append(f"{socket_path}-other")
    said = subprocess.run(argv, capture_output=True, timeout=60, check=True).stdout
    assert counts_of(*json.loads(said)) is None


def routes(pages: Pages) -> list[str]:
    """List every page of a scheduler: Dask's handlers, the dashboard's, and our own."""
    modules = dask.config.get("distributed.scheduler.http.routes")
    handlers = get_handlers(server=None, modules=modules, prefix="/")
    found = {re.sub(r"\(.*?\)", "x", str(handler[0])) for handler in handlers}
    shown = {page for path in applications for page in (path, f"{path}/autoload.js", f"{path}/ws")}
    assert {"/status", "/json/counts.json", "/metrics", "/health"} <= found | shown
    ours = {"/scaler", "/perennial/workers.json", "/sitemap.json", "/", "/no/such/page"}
    assert pages.within("/scaler").status == 200
    return sorted(found | shown | ours)


def test_without_the_token_every_page_is_refused(pages: Pages) -> None:
    every = routes(pages)
    answers = [pages.ask(path) for path in every]
    assert {answer.status for answer in answers} == {403}
    assert len({answer.read() for answer in answers}) == 1  # not even which pages there are
    assert pages.status("/status", Authorization=f"Bearer {pages.token[:-1]}") == 403
    assert pages.status("/status", Authorization="Bearer ") == 403
    assert pages.status("/status?token=") == 403
    assert pages.status(f"/status?token={pages.token[:-1]}") == 403
    assert pages.status("/status", Cookie=f"perennial-dashboard-{pages.port}=") == 403
    assert not pages.opens()


def test_with_the_token_they_are_shown(pages: Pages) -> None:
    for path in ("/health", "/json/counts.json", "/perennial/workers.json", "/status", "/metrics"):
        assert pages.status(path, **pages.bearer) == 200, path
    assert pages.status("/no/such/page", **pages.bearer) == 404


def test_another_host_is_refused_with_the_token_too(pages: Pages) -> None:
    """A page that lets its own name point to this machine sends that name."""
    for host in ("rebound.example.org", f"rebound.example.org:{pages.port}", "", "127.0.0.1.nip"):
        assert pages.status("/status", **pages.bearer, Host=host) == 403, host
    for host in ("localhost", f"localhost:{pages.port}", "[::1]:9", "127.0.0.1:18787"):
        assert pages.status("/health", **pages.bearer, Host=host) == 200, host


def test_another_origin_is_refused_with_the_token_too(pages: Pages) -> None:
    own = f"http://127.0.0.1:{pages.port}"
    for origin in ("http://example.org", f"http://127.0.0.1:{pages.port + 1}", "null"):
        assert pages.status("/status", **pages.bearer, Origin=origin) == 403, origin
        assert not pages.opens(header=pages.bearer, origin=origin)
    assert pages.status("/status", **pages.bearer, Origin=own) == 200


def test_a_browser_gets_a_cookie_for_the_token(pages: Pages) -> None:
    answer = pages.ask(f"/status?token={pages.token}&theme=dark")
    assert (answer.status, answer.headers["Location"]) == (302, "/status?theme=dark")
    cookie, *rest = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(rest)
    assert pages.token not in cookie
    assert pages.status("/status", Cookie=cookie) == 200
    assert pages.status("/status", Cookie=cookie[:-1]) == 403
    assert pages.status("/status", Cookie=cookie, Host="example.org") == 403
    # No way to lead a browser elsewhere.
    away = pages.ask(f"//example.org/status?token={pages.token}").headers["Location"]
    assert away == "/status"


def test_on_the_socket_nothing_is_asked_and_nobody_else_may_open_it(pages: Pages) -> None:
    assert pages.within("/health").status == 200
    # JupyterLab, which asks who it is, passes on what the browser sent to it.
    assert pages.within("/status", Host="a.example.org:8888", Origin="https://a").status == 200
    modes = {path.name: path.stat().st_mode & 0o777 for path in pages.folder.iterdir()}
    assert modes == {"http": 0o600, "token": 0o600}
    assert pages.folder.stat().st_mode & 0o777 == 0o700


def test_an_open_dashboard_asks_nobody_for_the_token(opened: Pages) -> None:
    for path in ("/status", "/health", "/metrics", "/perennial/workers.json"):
        assert opened.status(path) == 200, path
    assert opened.opens()
    own = ("machine-a.example.org", "MACHINE-A.example.org:8787", "10.0.0.2:8787", "[fe80::1]:8787")
    for host in (*own, socket.gethostname()):
        assert opened.status("/status", Host=host) == 200, host
    assert opened.within("/status").status == 200


def test_an_open_dashboard_is_not_shown_through_pages_of_others(opened: Pages) -> None:
    """A browser that may read it must not be made to read it for a page of somebody else."""
    for host in ("rebound.example.org", "", "10.0.0.2.example.org", "machine-a.example.org.nip"):
        answer = opened.ask("/status", Host=host)
        assert answer.status == 403, host
        assert b"under an address of this machine" in answer.read()
    assert opened.status("/status", Origin="http://example.org") == 403
    assert not opened.opens(origin="http://example.org")


def test_an_open_dashboard_listens_on_the_schedulers_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here on a second address of loopback, where that of the network would be."""
    other = "127.0.0.2"
    from perennial.preloads.gate import _opened

    port = free_port()
    told = {"address": other, "names": []}
    assert _opened(port, told)[0] == []  # all of loopback is this machine's own
    monkeypatch.setattr("perennial.preloads.gate._is_address", lambda _host: False)
    [listening], names = _opened(port, told)
    with listening:
        assert listening.getsockname() == (other, port)
        assert socket.gethostname() in names
        with pytest.raises(SystemExit, match=f"^dashboard: port {port} of {other} cannot be"):
            _opened(port, told)
