"""Bounds by the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.scaler.calendar import bounds
from perennial.spec.scaling import Schedule

ZURICH = "Europe/Zurich"


def schedule(days: str, start: str, end: str, **more: Any) -> Schedule:
    return Schedule.model_validate({"days": days, "from": start, "to": end, **more})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


WEEK = schedule("mon-fri", "08:00", "18:00", min=2, time_zone=ZURICH)
NIGHT = schedule("fri-sun", "22:00", "06:00", max=1, time_zone=ZURICH)


@pytest.mark.parametrize(
    ("each", "now", "low", "high", "until"),
    [
        (WEEK, "2026-03-27T06:59:59", 0, 4, "2026-03-27T07:00"),
        (WEEK, "2026-03-27T07:00:00", 2, 4, "2026-03-27T17:00"),
        (WEEK, "2026-03-27T17:00:00", 0, 4, "2026-03-30T06:00"),  # after the clocks changed
        (WEEK, "2026-03-30T06:00:00", 2, 4, "2026-03-30T16:00"),
        (WEEK, "2026-10-23T16:00:00", 0, 4, "2026-10-26T07:00"),  # and back
        (NIGHT, "2026-01-02T21:30:00", 0, 1, "2026-01-03T05:00"),  # Friday night
        (NIGHT, "2026-01-03T05:00:00", 0, 4, "2026-01-03T21:00"),
        (NIGHT, "2026-01-05T04:59:00", 0, 1, "2026-01-05T05:00"),  # into Monday
        (NIGHT, "2026-01-05T21:30:00", 0, 4, None),
    ],
)
def test_bounds_at_a_time(each: Schedule, now: str, low: int, high: int, until: str | None) -> None:
    found = bounds([each], 0, 4, utc(now))
    assert (found.min, found.max) == (low, high)
    if until is not None:
        assert found.until == utc(until)


def test_without_schedules_nothing_ever_changes() -> None:
    found = bounds([], 1, 4, utc("2026-01-01T00:00"))
    assert (found.min, found.max, found.until) == (1, 4, None)


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.sampled_from([WEEK, NIGHT, schedule("mon-sun", "02:30", "03:15", max=9)]),
)
def test_nothing_changes_before_the_time_that_is_named(when: datetime, each: Schedule) -> None:
    now = when.replace(tzinfo=UTC)
    found = bounds([each], 0, 4, now)
    assert found.until is not None
    assert now < found.until <= now + timedelta(days=8)
    just_before = found.until - timedelta(seconds=1)
    if just_before > now:
        between = bounds([each], 0, 4, now + (just_before - now) / 2)
        assert (between.min, between.max) == (found.min, found.max)
