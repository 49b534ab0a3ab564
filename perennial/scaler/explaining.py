"""Explain in sentences what the scaler has seen, weighed and decided. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from perennial.errors import PerennialError
from perennial.scaler.history import MODES, Record

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_AGO = re.compile(r"(.+?)\s*ago")
_TIMES = "14:05, '10 min ago' or 2026-03-01T14:05"


def explain(record: Record, now: float, rules: Mapping[str, str]) -> list[str]:
    """Say what was seen, weighed and decided for a group at one tick."""
    stamp, back = clock(float(record["time"]), now), lasting(now - float(record["time"]))
    lines = [f"{record['group']}, {stamp} ({back} ago): {_decision(record)}."]
    if record.get("trouble"):
        lines.append(f"Trouble: {_sentence(record['trouble'])}")
    if record.get("partial"):
        lines.append(f"Not known: {_sentence(record['partial'])}")
    lines += _mode(record)
    if record.get("reason"):
        lines.append(f"Why: {_sentence(record['reason'])}")
    if rule := record.get("rule"):
        meaning = rules.get(rule, "")
        lines.append(f"Rule: {rule}" + (f": {_sentence(meaning)}" if meaning else "."))
    lines += [line for line in (_seen(record), _work(record), _weighed(record)) if line]
    lines += _who(record)
    lines.append(_next(record, now))
    return lines


def infeasible(record: Record) -> tuple[str, ...]:
    """Name the work that no group can run, where a record does."""
    return tuple(
        str(each["text"] if isinstance(each, Mapping) else each)
        for each in record.get("infeasible") or ()
    )


def line(record: Record) -> str:
    """Say in one line how a group stands, for `perennial status`."""
    said = f"{record['group']}: {_members(record.get('seen', '?'))}, {record.get('to', '?')} wanted"
    said += f", pinned at {record['pin']}" if record.get("pin") is not None else ""
    said += f", {record['starting']} starting" if record.get("starting") else ""
    said += f", {record['draining']} draining" if record.get("draining") else ""
    said += f"; {record.get('rule', '')}"
    said += f": {record['reason']}" if record.get("reason") else ""
    if record.get("mode", "act") != "act":
        said += f" ({record['mode']})"
    return said + (f"; TROUBLE: {record['trouble']}" if record.get("trouble") else "")


def clock(stamp: float, now: float) -> str:
    """Write a time in the reader's own time zone; the day only where it is not today."""
    at, today = datetime.fromtimestamp(stamp), datetime.fromtimestamp(now)
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def lasting(duration: float) -> str:
    """Write a duration with at most two units: ``3 min 20 s``."""
    whole = max(0, round(duration))
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min" + (f" {rest} s" if rest else "")


def moment(text: str, now: datetime) -> float:
    """Read a time such as ``14:05`` or ``10 min ago``."""
    words = text.strip()
    if found := _CLOCK.fullmatch(words):
        hour, minute, second = (int(each or 0) for each in found.groups())
        if hour < 24 and minute < 60 and second < 60:
            at = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
            return (at if at <= now else at - timedelta(days=1)).timestamp()
    elif found := _AGO.fullmatch(words):
        return now.timestamp() - seconds(found[1])
    else:
        try:
            at = datetime.fromisoformat(words)
        except ValueError:
            at = None
        if at is not None:
            stamp = (at if at.tzinfo else at.replace(tzinfo=now.tzinfo)).timestamp()
            if stamp > now.timestamp():
                raise PerennialError(f"{text}: found a time in the future; write {_TIMES}")
            return stamp
    raise PerennialError(f"{text!r}: not a time; write {_TIMES}")


def seconds(text: str) -> float:
    """Read a duration as a cluster file has it."""
    from perennial.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        raise PerennialError(
            f"{text!r}: not a duration; write one such as 30 s, 10 min or 2h"
        ) from None


def _decision(record: Record) -> str:
    # Who is being drained is asked for, and not counted any more: that is `current`.
    now, to = record.get("current", record.get("asked")), record.get("to")
    if now is None or to is None:
        return "not known" if to is None else f"{_members(to)} wanted"
    if to == now:
        return f"stays at {_members(to)}"
    return f"{'grows' if to > now else 'shrinks'} from {now} to {_members(to)}"


def _mode(record: Record) -> list[str]:
    mode = str(record.get("mode") or "act")
    return [] if mode == "act" else [f"Mode: {_sentence(MODES.get(mode, mode))}"]


def _seen(record: Record) -> str:
    parts = []
    if record.get("seen") is not None:
        busy = f" ({record['busy']} of them busy)" if record.get("busy") is not None else ""
        parts.append(f"{_members(record['seen'])} at the scheduler{busy}")
    for key, words in (("existing", "on the platform"), ("asked", "asked for")):
        if record.get(key) is not None:
            parts.append(f"{record[key]} {words}")
    parts += [f"{record[key]} {key}" for key in ("starting", "draining") if record.get(key)]
    if record.get("limit"):
        used, limit = float(record.get("memory") or 0), float(record["limit"])
        parts.append(f"{used / 2**30:.1f} of {limit / 2**30:.1f} GiB memory in use")
    return f"Seen: {', '.join(parts)}." if parts else ""


def _work(record: Record) -> str:
    words = (
        ("queued", "queued"),
        ("processing", "processing"),
        ("unrunnable", "that no worker can run now"),
    )
    counts = [f"{record[key]} {text}" for key, text in words if record.get(key) is not None]
    if not counts:
        return ""
    said = f"Work: {', '.join(counts)}"
    if record.get("work") is not None:
        said += f"; {lasting(float(record['work']))} of it"
    if record.get("demand") is not None:
        said += f", which could use {_number(record['demand'])} slots"
    return said + "."


def _weighed(record: Record) -> str:
    numbers = record.get("numbers") or {}
    if not isinstance(numbers, Mapping) or not numbers:
        return ""
    return "Weighed: " + ", ".join(f"{k} {_number(v)}" for k, v in numbers.items()) + "."


def _who(record: Record) -> list[str]:
    said = []
    if record.get("leave"):
        said.append(f"To leave: {', '.join(map(str, record['leave']))}.")
    if record.get("back"):
        said.append(f"To come back: {', '.join(map(str, record['back']))}.")
    return said


def _next(record: Record, now: float) -> str:
    again = record.get("again")
    if again is None:
        return "Next: another decision when the demand or the members change; not by time alone."
    at = float(record["time"]) + float(again)
    left = f", in {lasting(at - now)}" if at > now else ""
    return f"Next: by time alone, another decision is possible at {clock(at, now)}{left}."


def _members(count: Any) -> str:
    return f"{count} member" if count == 1 else f"{count} members"


def _number(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, int | float) else str(value)


def _sentence(text: Any) -> str:
    said = str(text).strip()
    return said if said.endswith((".", "!", "?")) else f"{said}."
