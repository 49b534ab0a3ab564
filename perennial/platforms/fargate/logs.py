"""The logs of a cluster in CloudWatch: the last lines, and those that come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from perennial.aws import names
from perennial.aws.client import Aws, unless
from perennial.aws.failures import Cause
from perennial.contracts import LogLine

#: Milliseconds back for which lines are looked for, a longer time in each round.
BACK = (600_000, 3_600_000, 86_400_000, 7 * 86_400_000)
#: Seconds between two looks for new lines; CloudWatch takes five such questions in a second.
LOOK = 2.0
#: Milliseconds that a line may take to be found.
LATE = 10_000


def read(aws: Aws, cluster: str, prefix: str, lines: int, follow: bool) -> Iterator[LogLine]:
    """Yield the last lines of all streams that begin so, by time; then, if asked, new ones."""
    group, now = names.log_group(cluster), int(time.time() * 1000)
    found: list[Any] = []
    for back in BACK:
        found = _since(aws, group, prefix, now - back)
        if len(found) >= lines:
            break
    for event in deque(found, maxlen=lines):
        yield _line(event)
    if follow:
        yield from _new(aws, group, prefix, now, {event["eventId"] for event in found})


def _new(aws: Aws, group: str, prefix: str, since: int, seen: set[str]) -> Iterator[LogLine]:
    """Yield lines as they come; one that comes late is none the less found, and once."""
    while True:
        for event in _since(aws, group, prefix, since - LATE):
            if event["eventId"] not in seen:
                seen.add(event["eventId"])
                since = max(since, int(event["timestamp"]))
                yield _line(event)
        time.sleep(LOOK)


def _since(aws: Aws, group: str, prefix: str, start: int) -> list[Any]:
    """List the lines since a time, in their order; none where there is no log yet."""
    given: dict[str, Any] = {"logGroupName": group, "startTime": max(0, start)}
    if prefix:
        given["logStreamNamePrefix"] = prefix
    call = aws.client("logs").filter_log_events
    pages = aws.pages("read the logs", call, "events", **given)
    found = unless(Cause.MISSING, lambda: [*pages]) or []
    return sorted(found, key=lambda event: (event["timestamp"], event["eventId"]))


def _line(event: Any) -> LogLine:
    """Name a line after its task: its stream is called PREFIX/CONTAINER/TASK."""
    part, _, rest = str(event["logStreamName"]).partition("/")
    return LogLine(f"{part}-{rest.rpartition('/')[2]}", str(event["message"]).rstrip("\n"))
