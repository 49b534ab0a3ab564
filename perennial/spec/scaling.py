"""What a cluster file says about sizes: bounds, schedules, and the scaler itself."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from perennial.spec.strict import Model
from perennial.spec.units import (
    GIB,
    Amount,
    Duration,
    Port,
    Refusal,
    Size,
    Worded,
    refuse,
    refuse_all,
)
from perennial.spec.words import nearest

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = f"({'|'.join(WEEKDAYS)})"
_SPAN = f"{_DAY}(-{_DAY})?"
_HOUR = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_WEEK = 7 * 24 * 60

#: The shortest time between two looks at a cluster.
LEAST_INTERVAL = 0.2

Days = Annotated[
    str,
    Worded(
        "Days of the week.",
        "mon-fri",
        rf"{_SPAN}(, ?{_SPAN})*",
        "days such as mon-fri or sat, sun",
        "write days with their first three letters",
    ),
]
Start = Annotated[
    str,
    Worded(
        "A time of day.",
        "08:00",
        _HOUR,
        "a time of day from 00:00 to 23:59",
        "write it as '08:00', in quotes",
    ),
]
End = Annotated[
    str,
    Worded(
        "A time of day, or the end of the day.",
        "18:00",
        rf"{_HOUR}|24:00",
        "a time of day from 00:00 to 24:00",
        "write it as '18:00', in quotes",
    ),
]


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _known_zone(name: str) -> str:
    # A machine without the tables cannot say; the scaler's own machine may have them.
    if _zones() and name not in _zones():
        near = nearest(name, _zones())
        fix = f"did you mean {near}?" if near else "write a name such as Europe/Zurich"
        raise refuse("a time zone of the tz database, such as Europe/Zurich", fix)
    return name


TimeZone = Annotated[
    str,
    Worded(
        "A time zone of the tz database.",
        "Europe/Zurich",
        r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*",
        "a time zone of the tz database, such as Europe/Zurich",
        "write its name",
    ),
    AfterValidator(_known_zone),
]
Members = Annotated[int, Field(ge=0, le=100_000)]


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _part(most: int, example: float) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "number", "minimum": 0.01, "maximum": most, "examples": [example]}
    )


Growth = Annotated[float, Field(ge=0.01, le=1000), PlainSerializer(_number), _part(1000, 1)]
Shrinking = Annotated[float, Field(ge=0.01, le=1), PlainSerializer(_number), _part(1, 0.25)]


class Schedule(Model):
    """Other bounds at certain times of the week."""

    days: Days = "mon-sun"
    """Days on which it begins."""

    start: Start = Field(alias="from")
    """When it begins, in the time zone."""

    end: End = Field(alias="to")
    """When it ends: on the next day where that is not after `from`."""

    time_zone: TimeZone | None = Field(default=None, examples=["Europe/Zurich"])
    """The time zone; that of the machine on which the scaler runs when it is not given."""

    min: Members | None = Field(default=None, examples=[2])
    """Smallest number of members then; that of the group when it is not given."""

    max: Members | None = Field(default=None, examples=[8])
    """Largest number of members then; that of the group when it is not given."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.min is None and self.max is None:
            raise refuse("min, max or both", "write what is different then", "min")
        if self.start == self.end:
            raise refuse(f"a time other than {self.start}, which is from", "correct it", "to")
        return self

    def minutes(self) -> list[tuple[int, int]]:
        """List when it holds, as minutes of a week that begins on Monday.

        What reaches into the next week comes in two pieces.
        """
        begin, end = _minute(self.start), _minute(self.end)
        length = end - begin if end > begin else end - begin + 24 * 60
        found = []
        for day in weekdays(self.days):
            first = day * 24 * 60 + begin
            found.append((first, min(first + length, _WEEK)))
            if first + length > _WEEK:
                found.append((0, first + length - _WEEK))
        return sorted(found)


class Scale(Model):
    """Bounds between which the scaler sizes a group, and how."""

    min: Members = 0
    """Smallest number of members."""

    max: Members = Field(examples=[4])
    """Largest number of members."""

    idle: Duration | None = Field(default=None, examples=["5 min"])
    """How long a member has nothing to do before it may leave; chosen from the time that a new
    one takes to start, when it is not given."""

    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Of the groups that can run a task, those with a higher priority get members first."""

    cost: Amount = 1.0
    """What a member costs for an hour, in any unit: a cheaper group gets members first, and
    `scaler.budget` is in the same unit."""

    start_up: Duration = 10.0
    """How long a new member takes until it works: a first guess, until it has been measured."""

    horizon: Duration | None = Field(default=None, examples=["30 s"])
    """Waiting work shall be done in so much time: shorter is faster, longer is cheaper. Chosen
    from the time that a member takes to start, when it is not given."""

    step_up: Growth = 1.0
    """Largest part of `max` that may be on its way at a time: with 1 all may. One member may
    always come."""

    step_down: Shrinking = 0.25
    """Largest part of its size by which a group shrinks at a time. One member may always
    leave."""

    on_deadline: Literal["wait", "stop"] = "wait"
    """What becomes of a member that is still at work when the time to `drain` is over: `wait`
    lets it finish, `stop` stops it and reports what was given up."""

    schedules: list[Schedule] = Field(
        default_factory=list,
        max_length=100,
        title="schedules",
        examples=[[{"days": "mon-fri", "from": "08:00", "to": "18:00", "min": 2}]],
    )
    """Other bounds at certain times, such as more members in working hours."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        refusals = [*self._order(), *self._overlaps()]
        if refusals:
            raise refuse_all(refusals)
        return self

    def _order(self) -> Iterator[Refusal]:
        if self.min > self.max:
            yield _too_high(self.max, "min")
        if self.horizon == 0:
            yield Refusal("a duration above 0 s", "write a duration such as 30 s", ("horizon",))
        for index, schedule in enumerate(self.schedules):
            low, high = self.bounds(schedule)
            at = ("schedules", index)
            if low > high and schedule.min is not None:
                yield _too_high(high, *at, "min")
            elif low > high:
                allowed = f"at least min, which is {low}"
                yield Refusal(allowed, "raise max, or write min beside it", (*at, "max"))

    def _overlaps(self) -> Iterator[Refusal]:
        zones = {schedule.time_zone for schedule in self.schedules}
        for index, schedule in enumerate(self.schedules):
            if len(zones) > 1 and schedule.time_zone != self.schedules[0].time_zone:
                allowed = "one time zone for all schedules of a group"
                at = ("schedules", index, "time_zone")
                yield Refusal(allowed, "write that of schedules[0]", at)
        pairs = combinations(enumerate(self.schedules), 2)
        for (first, one), (second, other) in pairs if len(zones) == 1 else ():
            if minute := _shared(one.minutes(), other.minutes()):
                allowed = f"times beside those of schedules[{first}], which holds on {minute} too"
                fix = "change the days or the times of one of the two"
                yield Refusal(allowed, fix, ("schedules", second, "from"))

    def bounds(self, schedule: Schedule) -> tuple[int, int]:
        """Bounds while a schedule holds."""
        low = self.min if schedule.min is None else schedule.min
        return low, self.max if schedule.max is None else schedule.max

    @property
    def least(self) -> int:
        """The smallest number of members at any time."""
        return min([self.min, *(self.bounds(schedule)[0] for schedule in self.schedules)])

    @property
    def most(self) -> int:
        """The largest number of members at any time."""
        return max(self.max, *(self.bounds(schedule)[1] for schedule in self.schedules), 0)


class Scaler(Model):
    """The service that sizes the groups which have a `scale`, by what their work asks for."""

    interval: Duration = 1.0
    """How often it looks and decides."""

    budget: Amount | None = Field(default=None, examples=[20])
    """Most that the members of all groups may cost for an hour, in the unit of
    `workers.NAME.scale.cost`; without it there is no limit."""

    port: Port = 8790
    """Port on loopback of its `/metrics`, for Prometheus, and of its `/health`."""

    dry_run: bool = False
    """Whether it decides and records, and changes nothing."""

    memory: Size = GIB
    """Memory for it, where the service manager can limit memory."""

    @model_validator(mode="after")
    def _not_too_often(self) -> Self:
        if self.interval < LEAST_INTERVAL:
            raise refuse(
                f"at least {LEAST_INTERVAL:g} s", "write a duration such as 5 s", "interval"
            )
        return self


def weekdays(days: str) -> list[int]:
    """Days of the week, Monday is 0: ``mon-fri``, ``fri-mon``, ``sat, sun``."""
    found: set[int] = set()
    for span in days.replace(" ", "").split(","):
        first, _, last = span.partition("-")
        begin = WEEKDAYS.index(first)
        length = (WEEKDAYS.index(last or first) - begin) % 7
        found |= {(begin + step) % 7 for step in range(length + 1)}
    return sorted(found)


def _minute(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return 60 * int(hours) + int(minutes)


def _shared(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> str:
    """Name the first time that two schedules share; empty when there is none."""
    shared = [max(a, c) for a, b in one for c, d in other if max(a, c) < min(b, d)]
    if not shared:
        return ""
    day, minute = divmod(min(shared), 24 * 60)
    return f"{WEEKDAYS[day]} {minute // 60:02d}:{minute % 60:02d}"


def _too_high(most: int, *at: Any) -> Refusal:
    return Refusal(f"0 to max, which is {most}", "lower min or raise max", at)
