"""The words and pictures that are made of the scaler's records."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import PerennialError
from perennial.observation import Observation
from perennial.scaler import explaining, history
from perennial.scaler.dashboard_page import DEMAND, LINES, document
from perennial.scaler.policy import RULES
from perennial.scaler.values import (
    Decision,
    Demand,
    GroupSeen,
    Load,
    Rules,
    Standing,
)
from perennial.scaler.values import Group as GroupRules
from perennial.scaler.values import Work as WorkSeen

NOON = datetime(2026, 3, 5, 12, 0, 0, tzinfo=timezone(timedelta(hours=1)))


def row(time: float, to: int, asked: int | None = 2, **more: Any) -> dict[str, Any]:
    return {"time": time, "group": "cpu", "asked": asked, "to": to, "rule": "demand", **more}


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("11:59", NOON - timedelta(minutes=1)),
        ("11:59:30", NOON - timedelta(seconds=30)),
        ("12:00", NOON),
        ("12:01", NOON - timedelta(days=1) + timedelta(minutes=1)),
        ("23:30", NOON - timedelta(minutes=750)),
        (" 10 min ago", NOON - timedelta(minutes=10)),
        ("2h ago", NOON - timedelta(hours=2)),
        ("2026-03-05T11:00", NOON - timedelta(hours=1)),
        ("2026-03-05 10:00:00+00:00", NOON - timedelta(hours=1)),
        ("2026-03-05T10:00:00Z", NOON - timedelta(hours=1)),
        ("2026-03-05", NOON - timedelta(hours=12)),
    ],
)
def test_times_as_people_say_them(said: str, at: datetime) -> None:
    assert explaining.moment(said, NOON) == at.timestamp()


@pytest.mark.parametrize(
    "said", ["", "noon", "25:00", "12:60", "ago", "-5 min ago", "1e9", "2026-13-01", "12", "٣:٠٠x"]
)
def test_what_is_no_time_is_refused_in_one_line(said: str) -> None:
    with pytest.raises(PerennialError, match="write") as refusal:
        explaining.moment(said, NOON)
    assert "\n" not in str(refusal.value)


def test_a_time_in_the_future_is_refused() -> None:
    with pytest.raises(PerennialError, match="in the future"):
        explaining.moment("2026-03-05T12:00:01", NOON)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *[(-3, "0 s"), (0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h")],
        *[(7500, "2 h 5 min"), (86400 * 3 + 3600, "3 d 1 h")],
    ],
)
def test_durations_in_two_units(seconds: float, words: str) -> None:
    assert explaining.lasting(seconds) == words


def test_sentences_of_a_decision() -> None:
    said = explaining.explain(
        {
            **{"time": 1000.0, "group": "cpu", "seen": 2, "busy": 2, "existing": 3, "asked": 3},
            **{"starting": 1, "draining": 0, "queued": 40, "processing": 8, "unrunnable": 0},
            **{"work": 125.0, "demand": 48, "memory": 2**30, "limit": 2**32, "to": 6},
            **{"leave": [], "back": ["cpu-1"], "rule": "max", "reason": "40 tasks wait for 125 s"},
            **{"numbers": {"demand": 11, "max": 6}, "again": 30.0, "partial": "", "trouble": ""},
            "mode": "act",
        },
        1010.0,
        RULES,
    )
    assert said[0].endswith("(10 s ago): grows from 3 to 6 members.")
    assert said[1:4] == [
        "Why: 40 tasks wait for 125 s.",
        "Rule: max: The group is never larger than its max.",
        "Seen: 2 members at the scheduler (2 of them busy), 3 on the platform, 3 asked for,"
        " 1 starting, 1.0 of 4.0 GiB memory in use.",
    ]
    assert said[4:-1] == [
        "Work: 40 queued, 8 processing, 0 that no worker can run now; 2 min 5 s of it,"
        " which could use 48 slots.",
        "Weighed: demand 11, max 6.",
        "To come back: cpu-1.",
    ]
    assert said[-1].startswith("Next: by time alone, another decision is possible at ")
    assert said[-1].endswith(", in 20 s.")


def test_what_is_wrong_stands_first() -> None:
    said = explaining.explain(
        row(1.0, 2, trouble="no room", partial="no work is known", mode="paused"), 2.0, RULES
    )
    assert [line.partition(":")[0] for line in said[1:4]] == ["Trouble", "Not known", "Mode"]


def test_who_is_being_drained_is_not_counted_twice() -> None:
    """Four are asked for and two of them leave: three is more than there will be."""
    said = explaining.explain(row(1.0, 3, asked=4, current=2, draining=2), 2.0, RULES)
    assert "grows from 2 to 3 members" in "\n".join(said)


def test_a_record_of_the_scaler_itself_is_understood() -> None:
    """What the loop writes is what is read here: a new key or name is seen at once."""
    from perennial.scaler.records import record

    written = record(
        Decision("cpu", 2, 3, rule="demand", reason="8 tasks wait", numbers={"demand": 3.0}),
        Standing(Observation(2)),
        Demand(
            "scheduler",
            work=(WorkSeen(queued=Load(8, 16.0), processing={"cpu": Load(2, 4.0)}),),
            groups={"cpu": GroupSeen(2, 2, 2**30, 2**32)},
        ),
        Rules((GroupRules("cpu", 0, 8),)),
        time=1000.0,
        mode="act",
    )
    read = json.loads(json.dumps(written))
    said = "\n".join(explaining.explain(read, 1001.0, RULES))
    for words in (
        "grows from 2 to 3 members",
        "8 tasks wait",
        "2 members at the scheduler (2 of them busy)",
        "8 queued, 2 processing",
        "20 s of it, which could use 10 slots",
        "1.0 of 4.0 GiB",
    ):
        assert words in said
    assert explaining.line(read).startswith("cpu: 2 members, 3 wanted")
    for key, _, _ in (*LINES, DEMAND):
        assert key in read


def test_changes_are_what_a_person_calls_events() -> None:
    records = [
        row(1, 2),
        row(2, 5, reason="8 tasks wait"),
        row(3, 5, asked=5),
        row(4, 5, asked=5, trouble="no room"),
        row(5, 5, asked=5, trouble="no room"),
        row(6, 1, asked=5, rule="idle", reason="nothing to do"),
        row(7, 1, asked=1, mode="paused"),
        row(8, 1, asked=1),
    ]
    found = [(c.time, c.before, c.to, c.rule) for c in history.changes(records)]
    assert found == [
        (2, 2, 5, "demand"),
        (4, 5, 5, "trouble"),
        (6, 5, 1, "idle"),
        (7, 1, 1, "paused"),
        (8, 1, 1, "act"),
    ]


def test_records_that_are_damaged_are_skipped_and_said(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    good = json.dumps(row(2, 3)).encode()
    file.write_bytes(
        good + b"\n" + good[:30] + b"\n\n[1, 2]\n{}\n\xff\xfe\n" + json.dumps(row(1, 2)).encode()
    )

    records, notes = history.read([tmp_path / "missing", file])

    assert [record["time"] for record in records] == [1, 2]
    assert notes == [f"{file}: 4 lines are damaged (cut off, say) and skipped"]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_file_breaks_the_reader(lines: list[bytes]) -> None:
    assert all(
        history._parse(line) is None or isinstance(history._parse(line), dict) for line in lines
    )


def test_what_both_sources_know_stands_there_once() -> None:
    filed, told = [row(1.0001, 2, reason="whole")], [row(1.0, 2), row(2.0, 3)]

    merged = history.merge(filed, told)

    assert [record["time"] for record in merged] == [1.0001, 2.0]
    assert merged[0]["reason"] == "whole"


def test_the_record_that_held_at_a_time() -> None:
    records = [row(1, 2), row(3, 4), {**row(2, 9), "group": "gpu"}]
    assert {g: r["to"] for g, r in history.latest(records, 2.5).items()} == {"cpu": 2, "gpu": 9}
    assert history.latest(records, 0.5) == {}


def drawn(text: str) -> list[dict[str, Any]]:
    """The models of a page that Bokeh has written."""
    [document] = re.findall(r'<script type="application/json"[^>]*>(.+?)</script>', text, re.S)
    [made] = json.loads(html.unescape(document)).values()
    models: list[dict[str, Any]] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            models.append(value)
        for each in value.values() if isinstance(value, dict) else value:
            if isinstance(each, dict | list):
                walk(each)

    walk(made["roots"])
    return models


def test_a_history_is_drawn_whatever_is_in_it() -> None:
    unknown = {"asked": None, "existing": None, "seen": None, "demand": None}
    records = [
        {**row(1e9, 2), **unknown, "group": "a<b"},
        {**row(1e9, 0), **unknown},
        row(1e9 + 10, 1000, asked=0, existing=0, seen=1e-300, demand=1e6, rule="<&>"),
        row(2e9, 3, asked=1000, existing=2, seen=2, demand=None, reason='a "b" <c>'),
    ]
    text = document(records, "lab <1> & more")
    assert "<title>lab &lt;1&gt; &amp; more</title>" in text
    models = [each for each in drawn(text) if "attributes" in each]
    titles = {each["attributes"].get("text") for each in models if each["name"] == "Title"}
    assert {"cpu", "a<b"} <= titles


def test_a_long_history_is_a_page_that_a_browser_takes() -> None:
    begin = datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    records = [
        row(begin + 10 * i, i // 60 % 9, i // 60 % 9, existing=2, seen=2, demand=i % 97)
        for i in range(50_000)
    ]
    short, long = (len(document(each, "lab")) for each in (records[:1], records))
    assert long - short < 200 * len(records)
