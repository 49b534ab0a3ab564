"""What people ask of the scaler, and what it reports."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perennial.preloads import channel
from perennial.scaler.overrides import Overrides

GOOD = [
    {"kind": "pin", "group": "cpu", "size": 3, "seconds": 7200.0},
    {"kind": "pin", "group": "cpu", "size": 0, "seconds": None},
    {"kind": "pin", "group": "cpu", "size": 9, "seconds": None, "force": True},
    {"kind": "unpin", "group": "cpu"},
    {"kind": "bounds", "group": "cpu", "min": 1, "max": 4},
    {"kind": "bounds", "group": "cpu", "min": None, "max": 4},
    {"kind": "unbound", "group": "cpu"},
    {"kind": "pause"},
    {"kind": "resume"},
]


@pytest.mark.parametrize("wish", GOOD, ids=lambda wish: wish["kind"])
def test_wishes_wait_until_the_scaler_has_them(wish: dict[str, Any]) -> None:
    found = channel.Channel()
    name = found.take_request(wish)
    there = found.requests[name]
    assert there == {"id": name, "time": there["time"], **wish}
    found.acknowledge(["another", name, name])
    assert found.requests == {}


def test_a_scaler_with_a_new_folder_is_told_what_is_in_force(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 100.0
    monkeypatch.setattr(channel, "monotonic", lambda: now)
    found, groups = channel.Channel(), frozenset(("cpu", "gpu"))
    asked = [
        {"kind": "pin", "group": "cpu", "size": 3, "seconds": None},
        {"kind": "pin", "group": "cpu", "size": 4, "seconds": None},
        {"kind": "pin", "group": "gpu", "size": 1, "seconds": 60.0},
        {"kind": "bounds", "group": "gpu", "min": 1, "max": 4},
        {"kind": "bounds", "group": "cpu", "min": 2, "max": 4},
        {"kind": "unbound", "group": "cpu"},
        {"kind": "pause"},
    ]
    for wish in asked:
        found.take_request(wish)

    def taken_by(folder: str) -> tuple[list[str], dict[str, object]]:
        """What a scaler takes up with its first question, and what holds then."""
        (tmp_path / folder).mkdir(exist_ok=True)
        scaler = Overrides(tmp_path / folder)
        offered = found.offered(is_new=True)
        said = scaler.take(offered, groups, 0.0)
        found.acknowledge([request["id"] for request in offered])
        return said, scaler.summary(0.0)

    said, first = taken_by("first")
    assert len(said) == len(asked)
    assert found.offered(is_new=False) == []
    now += 20
    assert taken_by("first") == ([], first)  # it remembers
    said, holds = taken_by("second")
    assert len(said) == 4
    assert holds == {
        "paused": True,
        "pins": {"cpu": {"size": 4, "left": None}, "gpu": {"size": 1, "left": 40.0}},
        "bounds": {"gpu": {"min": 1, "max": 4}},
    }
    for wish in ({"kind": "resume"}, {"kind": "unpin", "group": "cpu"}):
        found.take_request(wish)
    taken_by("second")
    now += 60
    assert taken_by("third")[1] == {"paused": False, "pins": {}, "bounds": holds["bounds"]}


def test_what_is_in_force_is_kept_of_so_many_groups_alone() -> None:
    found = channel.Channel()
    for number in range(2 * channel.REQUESTS):
        wish = {"kind": "pin", "group": f"g{number}", "size": 1, "seconds": None}
        found.acknowledge([found.take_request(wish)])
    kept = [request["group"] for request in found.offered(is_new=True)]
    assert kept == [f"g{number}" for number in range(channel.REQUESTS, 2 * channel.REQUESTS)]


BAD = {
    "no wish": None,
    "a list": ["pause"],
    "an unknown kind": {"kind": "explode"},
    "a kind that cannot be looked up": {"kind": ["pause"]},
    "force of another kind": {
        **{"kind": "pin", "group": "cpu", "size": 1, "seconds": None},
        "force": "yes",
    },
    "a field too few": {"kind": "pin", "group": "cpu", "size": 3},
    "a field too many": {"kind": "pause", "group": "cpu"},
    "a size below zero": {"kind": "pin", "group": "cpu", "size": -1, "seconds": None},
    "a size that is none": {"kind": "pin", "group": "cpu", "size": True, "seconds": None},
    "no time": {"kind": "pin", "group": "cpu", "size": 1, "seconds": 0},
    "no end of time": {"kind": "pin", "group": "cpu", "size": 1, "seconds": float("nan")},
    "no group": {"kind": "unpin", "group": ""},
    "a group that is none": {"kind": "unpin", "group": 7},
    "min above max": {"kind": "bounds", "group": "cpu", "min": 3, "max": 2},
    "a very long size": {"kind": "pin", "group": "cpu", "size": "9" * 9999, "seconds": None},
}


@pytest.mark.parametrize("wish", BAD.values(), ids=BAD)
def test_nonsense_is_no_wish(wish: Any) -> None:
    found = channel.Channel()
    with pytest.raises(ValueError, match=r"^request") as caught:
        found.take_request(wish)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    assert "found" in message
    assert "allowed" in message
    assert found.requests == {}


def test_wishes_are_not_taken_without_end() -> None:
    found = channel.Channel()
    for _ in range(channel.REQUESTS):
        found.take_request({"kind": "pause"})
    with pytest.raises(ValueError, match="see whether it runs"):
        found.take_request({"kind": "pause"})


def test_reports_are_foundfor_others_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "RECORDS", 5)
    monkeypatch.setattr(channel, "GROUPS", 2)
    found = channel.Channel()
    assert found.latest()["report"] is None
    assert found.latest()["age"] is None
    for tick in range(20):
        groups = {"cpu": {"seen": tick, "reason": "idle for long"}, "gpu": {}, "odd": 3}
        found.take_report({"time": 5.0 * tick, "mode": "act", "groups": groups})
    told = found.latest()
    assert told["report"]["time"] == 95
    assert 0 <= told["age"] < 60
    assert [len(x) for x in told["records"].values()] == [5, 5]
    record = dict(zip(told["fields"], told["records"]["cpu"][-1], strict=True))
    assert (record["time"], record["seen"], record["reason"]) == (95, 19, "idle for long")
    assert record["mode"] == "act"
    assert record["work"] is None
    assert [r[0] for r in found.latest(86)["records"]["cpu"]] == [90, 95]
    for group in "abc":
        found.take_report({"time": 1.0, "groups": {group: {}}})
    assert set(found.latest()["records"]) == {"b", "c"}


def test_a_look_each_second_does_not_shorten_what_is_kept() -> None:
    found = channel.Channel()
    for second in range(61):
        to = 3 if second < 31 else 4  # a change is kept to the second
        record = {"to": to, "seen": second % 7, "rule": "steady"}
        found.take_report({"time": float(second), "mode": "act", "groups": {"cpu": record}})
    told = found.latest()
    times = [row[0] for row in told["records"]["cpu"]]
    assert times[-1] == 60
    assert {30.0, 31.0} <= set(times)
    assert len(times) <= 60 / channel.BETWEEN + 4
    assert max(b - a for a, b in pairwise(times)) <= 2 * channel.BETWEEN
