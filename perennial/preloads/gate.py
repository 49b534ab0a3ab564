"""Require a login for the scheduler's pages. Given to it with ``--preload``.

Dask's dashboard shows logs, tracebacks with values and source to whoever reaches its port, and on
loopback that is every user of the machine. So the pages are served on a unix socket in a folder of
the scheduler's user: for JupyterLab, the watchdog and our own commands. Who may open the socket is
said by the folder's mode, and nobody else can stand in its place while the scheduler is down.

The port on loopback stays, for browsers and Prometheus; there each request needs the token that
stands beside the socket, or the cookie that a browser gets for it, and has to name this machine
(`Host`) and no other page (`Origin`). See `perennial open dashboard`. Where the cluster
file opens the dashboard, no token is asked, and the scheduler's own address has the port as well.

It has to be there before the scheduler listens, and so takes effect when it is imported.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import dask.config
from distributed import Scheduler
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.routing import Router
from tornado.web import Application, RequestHandler

from perennial.pages import SOCKET, TOKEN
from perennial.preloads.asking import Refusal, bearer, same
from perennial.unix import short

logger = logging.getLogger("distributed.perennial.gate")

#: Names of this machine for a browser on it, or at the end of a tunnel to it.
_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_REFUSED = (
    "403: this dashboard requires a login; `perennial open dashboard` opens it, and a program sends"
    " its token as `Authorization: Bearer TOKEN`\n"
)
_ELSEWHERE = (
    "403: this dashboard is shown under an address of this machine or its own name alone, and to no"
    " other page\n"
)


class Gate(Router):
    """Routes requests to the scheduler's pages, or refuses them.

    With ``names`` no token is needed: a request names the machine by one of them, or by an address.
    """

    def __init__(self, pages: Any, token: str, names: Collection[str] = ()) -> None:
        self._pages = pages
        self._token = token
        self._names = frozenset(map(str.lower, names))
        # Known to this process alone, so that a cookie ends with the scheduler.
        self._session = secrets.token_urlsafe(32)
        said = {"text": _ELSEWHERE if names else _REFUSED}
        self._refusal = Application([(".*", Refusal, said)])
        self._login = Application([(".*", _Login, {"session": self._session})])

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Choose who answers."""
        return self._chosen(request).find_handler(request, **kwargs)

    def _chosen(self, request: HTTPServerRequest) -> Any:
        context = getattr(request.connection, "context", None)
        if getattr(context, "address_family", None) == socket.AF_UNIX:
            return self._pages
        if not (_is_here(request, self._names) and _is_own_page(request)):
            return self._refusal
        if self._names:
            return self._pages
        if same(bearer(request), self._token) or same(_cookie(request), self._session):
            return self._pages
        if request.method == "GET" and same(_queried(request), self._token):
            return self._login
        return self._refusal


class _Login(RequestHandler):
    """Sets a browser's cookie, and redirects it to the page without the token in its address."""

    def initialize(self, session: str) -> None:
        self._session = session

    def get(self) -> None:
        self.set_cookie(
            _cookie_name(self.request), self._session, httponly=True, samesite="Strict", path="/"
        )
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        parts = urlsplit(self.request.uri or "/")
        rest = [(key, value) for key, value in parse_qsl(parts.query) if key != "token"]
        # The path alone: what begins with two slashes would lead to another host.
        self.redirect(f"/{parts.path.lstrip('/')}" + (f"?{urlencode(rest)}" if rest else ""))


def _is_here(request: HTTPServerRequest, names: Collection[str]) -> bool:
    """Whether a request names this machine: a page that rebinds its own name does not."""
    host = _hostname(f"//{request.headers.get('Host', '')}")
    return host in _HOSTS or (bool(names) and (host in names or _is_address(host)))


def _is_address(host: str | None) -> bool:
    """Whether a host is a plain address, which no other name can be made to stand for."""
    try:
        return bool(ipaddress.ip_address(host or ""))
    except ValueError:
        return False


def _is_own_page(request: HTTPServerRequest) -> bool:
    """Whether a request comes from no page, or from one of these."""
    host = request.headers.get("Host")
    return all(each == f"http://{host}" for each in request.headers.get_list("Origin"))


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _queried(request: HTTPServerRequest) -> str:
    found = request.query_arguments.get("token", [b""])
    return found[-1].decode("utf-8", "replace")


def _cookie(request: HTTPServerRequest) -> str:
    morsel = request.cookies.get(_cookie_name(request))
    return morsel.value if morsel else ""


def _cookie_name(request: HTTPServerRequest) -> str:
    """Name the cookie by the port: browsers give those of one host to all its ports."""
    port = request.host.rpartition(":")[2]
    return f"perennial-dashboard-{port if port.isdecimal() else 80}"


def made_token(folder: Path) -> str:
    """Read the token; make it where there is none."""
    path, new = folder / TOKEN, folder / f"{TOKEN}.new"
    if not path.is_file() or path.stat().st_size == 0:
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(24))
        os.replace(new, path)  # atomically
    return path.read_text(encoding="ascii").strip()


def _listening(folder: Path, shared: bool) -> socket.socket:
    """Listen on the socket, for this user or for its group as well."""
    os.chmod(folder, 0o750 if shared else 0o700)  # systemd gives its folder one mode for all
    with short(str(folder / SOCKET)) as path:
        return bind_unix_socket(path, mode=0o660 if shared else 0o600)


def _opened(port: int, settings: Mapping[str, Any]) -> tuple[list[socket.socket], list[str]]:
    """Listen on the scheduler's own address too; returns this machine's names as well."""
    names = [*settings["names"], socket.gethostname(), socket.getfqdn()]
    address = str(settings["address"])
    if address in _HOSTS or (_is_address(address) and ipaddress.ip_address(address).is_loopback):
        return [], names  # there it listens already
    try:
        return bind_sockets(port, address), names
    except OSError as error:
        raise SystemExit(
            f"dashboard: port {port} of {address} cannot be listened on"
            f" ({error.strerror or error}), so the scheduler does not run; change"
            " scheduler.dashboard_port or `security.open_dashboard`"
        ) from None


def install() -> None:
    """Install the gate in each scheduler that this process makes."""
    plain = Scheduler.start_http_server

    def start_http_server(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)  # no request is answered before the event loop runs
        settings = dask.config.get("perennial.pages", None)
        if settings is None:
            return
        folder = Path(settings["folder"])
        os.makedirs(folder, 0o700, exist_ok=True)
        sockets: list[socket.socket] = []
        names: list[str] = []
        if settings.get("open"):
            sockets, names = _opened(self.http_server.port, settings["open"])
        gate = Gate(self.http_application, made_token(folder), names)
        self.http_server.request_callback = gate
        self.http_server.add_sockets(sockets)
        self.http_server.add_socket(_listening(folder, bool(settings["shared"])))

    Scheduler.start_http_server = start_http_server


install()
