"""Serve the metrics of Dask alone, on a port of their own. Given to Dask with ``--preload``.

Where ``perennial.metrics`` is set, ``GET /metrics`` is answered to whoever sends the token in its
file as ``Authorization: Bearer TOKEN``; by TLS with the certificate of the process where it has
one. A client's certificate is not asked for: whoever has one may run code on the cluster. Of
several workers in a member, each has the next port.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import dask.config
from distributed import Scheduler
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application

from perennial.preloads.asking import Refusal, bearer, same
from perennial.preloads.watching import Watched

logger = logging.getLogger("distributed.perennial.metrics")

_REFUSED = "403: the metrics are at /metrics, for `Authorization: Bearer TOKEN` alone\n"
#: Seconds between two looks for a renewed certificate.
LOOK = 10.0


class MetricsGate(Router):
    """Answers requests for the metrics, and refuses all others."""

    def __init__(self, pages: Any, token: Path) -> None:
        self._pages = pages
        self._token = token
        self._refusal = Application([(".*", Refusal, {"text": _REFUSED})])

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Choose who answers."""
        asked = request.method == "GET" and request.path == "/metrics"
        known = asked and same(bearer(request), self._secret())
        return (self._pages if known else self._refusal).find_handler(request, **kwargs)

    def _secret(self) -> str:
        """Read the token: another one is taken into use as soon as it is there."""
        try:
            return self._token.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""


class Certificate(Watched):
    """The certificate that is shown, renewed like that of the process."""

    def __init__(self, cert: str, key: str) -> None:
        super().__init__([Path(cert), Path(key)])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.take()

    def take(self) -> None:
        """Load the files: a spare context first, so that a key that does not fit changes none."""
        files = [str(path) for path in self.paths]
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
        self.context.load_cert_chain(*files)

    def complain(self, error: OSError | ValueError) -> None:
        """Say that the certificate of before stays in use."""
        logger.warning("metrics: %s cannot be used yet (%s); tries again", self.paths[0], error)


async def dask_setup(server: Any) -> None:
    """Listen, where the cluster file asks for it."""
    settings = dask.config.get("perennial.metrics", None)
    if settings is None:
        return
    port = int(settings["port"]) + _number(server)
    context = None
    tls = server.security.get_tls_config_for_role(_role(server))
    if tls["cert"]:
        shown = Certificate(tls["cert"], tls["key"])
        shown.follow(server, "perennial-metrics", LOOK)
        context = shown.context
    made = HTTPServer(
        MetricsGate(server.http_application, Path(settings["token"])), ssl_options=context
    )
    try:
        made.listen(port)
    except OSError as error:
        raise RuntimeError(
            f"metrics: port {port} cannot be listened on ({error.strerror or error}); change"
            " the port of the metrics in the cluster file"
        ) from None
    server.perennial_metrics = made


async def dask_teardown(server: Any) -> None:
    """Stop listening."""
    made = getattr(server, "perennial_metrics", None)
    if made is not None:
        made.stop()


def _role(server: Any) -> str:
    return "scheduler" if isinstance(server, Scheduler) else "worker"


def _number(server: Any) -> int:
    """Which of a member's processes it is: Dask puts that behind the name of each."""
    if isinstance(server, Scheduler) or int(dask.config.get("perennial.processes", 1)) == 1:
        return 0
    return int(str(server.name).rpartition("-")[2])
