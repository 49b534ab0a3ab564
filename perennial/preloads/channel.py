"""What people ask of the scaler, and what it reports: kept at the scheduler, where both can reach.

So the command line, notebooks and the dashboard need no other way to the scaler than the one
that they have to the scheduler.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic, time
from typing import Any

from perennial.preloads.messages import Reports, Request

#: Requests that are kept until the scaler takes them.
REQUESTS = 100
#: Records of a group that are kept, and seconds between two that say the same: two hours.
RECORDS = 1440
BETWEEN = 5.0
#: Groups of which records are kept.
GROUPS = 200

#: What is kept of a record, in this order.
FIELDS = (
    *("time", "seen", "existing", "asked", "to", "starting", "draining", "current", "demand"),
    *("queued", "unrunnable", "processing", "work", "busy", "memory", "limit"),
    *("rule", "mode", "reason", "trouble", "partial", "infeasible", "again", "leave", "back"),
)
#: Of these a change is kept, however soon it comes.
CHANGES = tuple(FIELDS.index(field) for field in ("asked", "to", "rule", "mode", "leave", "back"))

#: What each kind of request says.
KINDS: dict[str, tuple[str, ...]] = {
    "pin": ("group", "size", "seconds"),
    "unpin": ("group",),
    "bounds": ("group", "min", "max"),
    "unbound": ("group",),
    "pause": (),
    "resume": (),
}
#: What it may say beside that.
MORE: dict[str, tuple[str, ...]] = {"pin": ("force",)}
#: What ends what another kind has begun.
ENDS = {"unpin": "pin", "unbound": "bounds", "resume": "pause"}


class Channel:
    """Requests on their way to the scaler, and its reports."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.report: dict[str, Any] | None = None
        self.records: dict[str, deque[tuple[Any, ...]]] = {}
        self._reported_at = 0.0
        #: Requests that were taken and are in force, by kind and group, and when they were taken.
        self._in_force: dict[tuple[str, str], tuple[float, Request]] = {}

    def take_request(self, request: Any) -> str:
        """Take a request; give the name under which the scaler will acknowledge it."""
        content = checked(request)
        if len(self.requests) >= REQUESTS:
            raise ValueError(
                f"{REQUESTS} requests wait for the scaler, the most that are kept; "
                "see whether it runs"
            )
        name = uuid.uuid4().hex
        self.requests[name] = {"id": name, "time": time(), **content}
        return name

    def acknowledge(self, names: Iterable[str]) -> None:
        """Offer the requests no more that the scaler has taken."""
        for name in names:
            if (request := self.requests.pop(name, None)) is not None:
                self._keep(request)

    def offered(self, is_new: bool) -> list[Request]:
        """Give the requests that wait; to a scaler that has just started all that are in force.

        Its folder may be new, as that of a pod is. What it remembers it knows by the id.
        """
        return [*(self._still() if is_new else ()), *self.requests.values()]

    def _keep(self, request: Request) -> None:
        kind = request["kind"]
        key = (ENDS.get(kind, kind), request.get("group", ""))
        self._in_force.pop(key, None)
        if kind not in ENDS:
            self._in_force[key] = (monotonic(), request)
            if len(self._in_force) > REQUESTS:
                del self._in_force[next(iter(self._in_force))]

    def _still(self) -> Iterator[Request]:
        for taken, request in self._in_force.values():
            seconds = request.get("seconds")
            if seconds is None:
                yield request
            elif (left := taken + seconds - monotonic()) > 0:
                yield {**request, "seconds": left}

    def take_report(self, report: Mapping[str, Any]) -> None:
        """Keep the scaler's report, and the records in it."""
        self.report, self._reported_at = dict(report), monotonic()
        groups = report.get("groups")
        for name, record in (groups if isinstance(groups, Mapping) else {}).items():
            if not isinstance(record, Mapping):
                continue
            if name not in self.records and len(self.records) >= GROUPS:
                del self.records[next(iter(self.records))]
            ring = self.records.setdefault(name, deque(maxlen=RECORDS))
            values = tuple(record.get(field, report.get(field)) for field in FIELDS)
            # Texts repeat themselves; each is kept once.
            before = ring[-1] if ring else values
            pairs = zip(values, before, strict=True)
            values = tuple(old if old == new else new for new, old in pairs)
            if len(ring) >= 2 and _adds_nothing(ring[-2], ring[-1]):
                ring.pop()
            ring.append(values)

    @property
    def age(self) -> float | None:
        """Seconds since the latest report; None before the first."""
        return None if self.report is None else monotonic() - self._reported_at

    def latest(self, since: float | None = None) -> Reports:
        """Give the latest report and the records."""
        records = {
            name: [list(r) for r in ring if since is None or _newer(r[0], since)]
            for name, ring in self.records.items()
        }
        return {
            "report": self.report,
            "age": self.age,
            "fields": list(FIELDS),
            "records": records,
        }


def _adds_nothing(before: tuple[Any, ...], record: tuple[Any, ...]) -> bool:
    """Whether a record says nothing that one shortly before it does not say."""
    changed = any(before[at] != record[at] for at in CHANGES)
    return not changed and _newer(before[0], -1) and not _newer(record[0], before[0] + BETWEEN)


def checked(request: Any) -> Request:
    """Check a request."""
    kind = request.get("kind") if isinstance(request, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        kinds = ", ".join(KINDS)
        raise ValueError(f"request: found kind {kind!r}; allowed: {kinds}; ask for one of them")
    expected = {"kind", *KINDS[kind]}
    if set(request).difference(MORE.get(kind, ())) != expected:
        found, allowed = ", ".join(map(str, request)), ", ".join(("kind", *KINDS[kind]))
        raise ValueError(f"request {kind}: found {found}; allowed: exactly {allowed}; give these")
    for field in request.keys() - {"kind"}:
        _check(kind, field, request[field])
    low, high = request.get("min"), request.get("max")
    if low is not None and high is not None and low > high:
        raise ValueError(
            f"request bounds: found min {low} above max {high}; allowed: min ≤ max; lower min"
        )
    taken: Request = dict(request)  # type: ignore[assignment]  # just looked at
    return taken


def _check(kind: str, field: str, value: Any) -> None:
    """Check a field of a request."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    real = isinstance(value, int | float) and not isinstance(value, bool)
    fits, allowed = {
        "group": (isinstance(value, str) and 0 < len(value) <= 253, "the name of a group"),
        "size": (whole, "a whole number from 0"),
        "min": (whole or value is None, "a whole number from 0, or nothing"),
        "max": (whole or value is None, "a whole number from 0, or nothing"),
        "seconds": (
            value is None or (real and math.isfinite(value) and value > 0),
            "a number above 0, or nothing for no end",
        ),
        "force": (isinstance(value, bool), "true or false"),
    }[field]
    if not fits:
        found = repr(value) if len(repr(value)) < 100 else f"{repr(value)[:100]}…"
        raise ValueError(f"request {kind}: found {field} {found}; allowed: {allowed}; change it")


def _newer(moment: Any, since: float) -> bool:
    return isinstance(moment, int | float) and moment > since
