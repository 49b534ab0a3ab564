"""``/metrics`` for Prometheus, and ``/health``, on loopback.

Served from a thread of its own, so that a loop that hangs is reported as well.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from perennial.errors import PerennialError
from perennial.scaler import timing
from perennial.scaler.desk import LARGEST, Desk, answered

_PREFIX = "perennial_scaler"
#: Key of a record → the description of its metric.
_GAUGES = {
    "seen": "Members that the scheduler can use.",
    "existing": "Members that the platform has.",
    "asked": "Members that the platform has been asked for.",
    "to": "Members that the scaler wants.",
    "starting": "Members that have not registered with the scheduler yet.",
    "draining": "Members that are being drained.",
    "busy": "Members with something to do.",
    "queued": "Ready tasks that the scheduler holds back.",
    "unrunnable": "Ready tasks that no worker can run.",
    "processing": "Tasks that workers have been given.",
    "demand": "Tasks that could run at the same time.",
    "work": "Seconds of work.",
    "memory": "Bytes that the workers use.",
    "limit": "Bytes that the workers may use.",
}


@dataclass(frozen=True, slots=True)
class ScalerState:
    """How a scaler is; times are by its clock."""

    mode: str
    interval: float
    #: When the last tick ended, and the last complete one; None before the first.
    ended: float | None
    truth: float | None
    #: How long the last tick took.
    seconds: float = 0.0
    #: What is wrong with the scaler, by part, and with its platforms, by group.
    trouble: Mapping[str, str] = field(default_factory=dict)
    fleets: Mapping[str, str] = field(default_factory=dict)
    #: The latest record of each group.
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Tasks that no group can run.
    infeasible: int = 0
    #: How often things have happened.
    counts: Mapping[str, int] = field(default_factory=dict)


def health(state: ScalerState, now: float) -> tuple[int, dict[str, object]]:
    """Say whether the scaler does its work."""
    longest = timing.MISSED * state.interval + timing.GRACE
    reasons = []
    for what, last in (("tick", state.ended), ("complete tick", state.truth)):
        if last is None:
            reasons.append(f"no {what} has ended yet")
        elif now - last > longest:
            reasons.append(f"the last {what} ended {now - last:.0f} s ago")
    trouble = [*state.trouble.values(), *state.fleets.values()]
    body = {
        "healthy": not reasons,
        "mode": state.mode,
        "reasons": reasons,
        "trouble": trouble,
        "truth": None if state.truth is None else round(now - state.truth, 1),
    }
    return (503 if reasons else 200), body


class _Metrics(Collector):
    """The metrics of a state at a time."""

    def __init__(self, state: ScalerState, now: float) -> None:
        self.state = state
        self.now = now

    def collect(self) -> Iterator[Metric]:
        """Yield each metric; what nobody knows is left out."""
        state, groups = self.state, self.state.groups
        well = health(state, self.now)[0] == 200
        yield _gauge("up", "Whether the scaler is healthy.", well)
        for key, text in _GAUGES.items():
            yield _by_group(key, text, {name: each.get(key) for name, each in groups.items()})
        yield _gauge("infeasible_tasks", "Tasks that no group can run.", state.infeasible)
        yield _gauge("tick_seconds", "How long the last tick took.", state.seconds)
        troubled = {name: bool(state.fleets.get(name)) for name in groups}
        yield _by_group("trouble", "Whether the platform refuses or fails to answer.", troubled)
        for name, count in state.counts.items():
            what = f"{_PREFIX}_{name.replace('-', '_')}"
            yield CounterMetricFamily(what, f"Number of: {name}.", value=count)


def exposition(state: ScalerState, now: float) -> bytes:
    """Write what Prometheus reads."""
    return generate_latest(_Metrics(state, now))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _by_group(name: str, text: str, values: Mapping[str, float | None]) -> Metric:
    family = GaugeMetricFamily(f"{_PREFIX}_group_{name}", text, labels=["group"])
    for group, value in values.items():
        if value is not None:
            family.add_metric([group], value)
    return family


class Pages:
    """The two pages, on a port of loopback."""

    def __init__(
        self,
        port: int,
        state: Callable[[], ScalerState],
        clock: Callable[[], float],
        desk: Desk | None = None,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                # A page in a browser cannot send this type to another origin without being asked.
                plain = self.headers.get_content_type() == "application/json"
                if desk is None or not plain or not length.isdigit() or int(length) > LARGEST:
                    self._answer(404, b"/health, /metrics\n", "text/plain")
                    return
                status, text = answered(desk, self.path, self.rfile.read(int(length)))
                self._answer(status, text.encode(), "application/json")

            def do_GET(self) -> None:
                if self.path == "/health":
                    status, body = health(state(), clock())
                    text = json.dumps(body) + "\n"
                    self._answer(status, text.encode(), "application/json")
                elif self.path == "/metrics":
                    self._answer(200, exposition(state(), clock()), CONTENT_TYPE_LATEST)
                else:
                    self._answer(404, b"/health, /metrics\n", "text/plain")

            def _answer(self, status: int, data: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing: it is asked every few seconds, for ever."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise PerennialError(
                f"scaler: found port {port} of loopback taken ({error.strerror}); choose another"
                " one as `scaler.port`, or end what listens there"
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="pages", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
