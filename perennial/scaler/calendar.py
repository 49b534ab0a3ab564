"""Bounds by the calendar. Pure: the time is given.

A schedule is in local time: ``08:00`` is eight o'clock also on the days when the clocks are
changed. A time that a day does not have counts as the next one that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from perennial.spec.scaling import Schedule

_WEEK = 7 * 24 * 60


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds at one time."""

    #: Smallest and largest number of members.
    min: int
    max: int
    #: When a schedule begins or ends next; None without schedules.
    until: datetime | None = None


def bounds(schedules: Sequence[Schedule], least: int, most: int, now: datetime) -> Bounds:
    """Bounds of a group now, and when the calendar changes them next."""
    holding = [each for each in schedules if _holds(each, _local(each, now))]
    for schedule in holding[:1]:  # they do not overlap
        least = least if schedule.min is None else schedule.min
        most = most if schedule.max is None else schedule.max
    changes = [change for each in schedules for change in _changes(each, now)]
    return Bounds(least, most, min(changes, default=None))


def _local(schedule: Schedule, now: datetime) -> datetime:
    """Read the clock on the wall; that of this machine when the schedule names no zone."""
    return now.astimezone(ZoneInfo(schedule.time_zone) if schedule.time_zone else None)


def _minute(time: datetime) -> int:
    """Minutes since the week began, on Monday."""
    return time.weekday() * 24 * 60 + time.hour * 60 + time.minute


def _holds(schedule: Schedule, local: datetime) -> bool:
    minute = _minute(local)
    return any(first <= minute < last for first, last in schedule.minutes())


def _changes(schedule: Schedule, now: datetime) -> list[datetime]:
    """List the next times at which each of its pieces begins or ends."""
    local = _local(schedule, now)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    monday = midnight - timedelta(days=local.weekday())
    edges = {edge % _WEEK for piece in schedule.minutes() for edge in piece}
    zone = ZoneInfo(schedule.time_zone) if schedule.time_zone else None
    times = [
        _instant(monday + timedelta(minutes=edge + week * _WEEK), zone)
        for edge in edges
        for week in (0, 1)
    ]
    return [time for time in times if time > now]


def _instant(wall: datetime, zone: tzinfo | None) -> datetime:
    """When the clock on the wall shows a time."""
    aware = wall.replace(tzinfo=zone) if zone else wall.astimezone()
    return aware.astimezone(UTC)
