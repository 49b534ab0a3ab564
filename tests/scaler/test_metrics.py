"""`/metrics` and a `/health` that tells the truth."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import parser

from perennial.errors import PerennialError
from perennial.scaler.metrics import Pages, ScalerState, exposition, health

STATE = ScalerState(
    *("act", 5.0, 99.0, 98.0, 0.25),
    infeasible=60,
    groups={"cpu": {"seen": 2, "existing": None, "to": 4}, 'g"p\nu': {"seen": 1}},
    counts={"ticks": 7, "given-up": 0},
)


@pytest.mark.parametrize(
    ("changes", "now", "reason"),
    [
        ({}, 100.0, None),
        ({}, 117.0, None),
        ({}, 119.0, "the last complete tick ended 21 s ago"),
        ({}, 200.0, "the last tick ended 101 s ago"),
        ({"truth": None}, 100.0, "no complete tick has ended yet"),
        ({"ended": None}, 100.0, "no tick has ended yet"),
    ],
)
def test_health_says_why_not(changes: dict[str, Any], now: float, reason: str | None) -> None:
    status, body = health(replace(STATE, **changes), now)
    assert (status == 200) == (reason is None) == body["healthy"]
    assert reason is None or reason in body["reasons"]


def test_what_has_just_begun_to_be_wrong_is_said_and_wakes_nobody() -> None:
    wrong = replace(STATE, trouble={"scheduler": "it is away"}, fleets={"cpu": "cpu: no room"})
    status, body = health(wrong, 100.0)
    assert (status, body["trouble"]) == (200, ["it is away", "cpu: no room"])


def test_prometheus_reads_the_metrics() -> None:
    text = exposition(STATE, 100.0).decode()
    families = list(parser.text_string_to_metric_families(text))
    samples = {(s.name, s.labels.get("group")): s.value for f in families for s in f.samples}
    assert samples["perennial_scaler_up", None] == 1
    assert samples["perennial_scaler_group_to", "cpu"] == 4
    assert samples["perennial_scaler_group_seen", 'g"p\nu'] == 1
    assert samples["perennial_scaler_infeasible_tasks", None] == 60
    assert samples["perennial_scaler_ticks_total", None] == 7
    assert ("perennial_scaler_group_existing", "cpu") not in samples
    assert all(family.documentation for family in families)


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_pages_stand_on_loopback() -> None:
    state = [STATE]
    pages = Pages(0, lambda: state[-1], lambda: 100.0)
    try:
        status, body = asked(pages.port, "/health")
        assert (status, json.loads(body)["healthy"]) == (200, True)
        assert asked(pages.port, "/metrics")[0] == 200
        assert asked(pages.port, "/")[0] == 404
        state.append(replace(STATE, ended=0.0))
        status, body = asked(pages.port, "/health")
        assert status == 503
        assert json.loads(body)["reasons"] == ["the last tick ended 100 s ago"]
        with pytest.raises(PerennialError, match=f"found port {pages.port} of loopback taken"):
            Pages(pages.port, lambda: STATE, lambda: 0.0)
    finally:
        pages.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", pages.port)) != 0
