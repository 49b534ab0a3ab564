"""Draw what the scaler has done over time, as SVG; needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isnan
from xml.sax.saxutils import escape

from perennial.scaler.history import Record, changes

#: What is drawn of a group: key of a record, how it is called, and its colour.
LINES = (
    ("asked", "asked for", "#b45309"),
    ("existing", "on the platform", "#475569"),
    ("seen", "at the scheduler", "#0f766e"),
)
DEMAND = ("demand", "slots that ready work could use", "#4338ca")
#: Colours of decisions to grow and to shrink.
UP, DOWN = "#15803d", "#b91c1c"

#: Records come at least once a minute; a longer gap is a time of which nobody knows anything.
GAP = 180.0
#: Points of one line: more cannot be seen.
POINTS = 1_000

_WIDTH, _LEFT, _RIGHT = 980, 64, 24
_SIZES, _DEMANDS, _BETWEEN, _TITLE = 150, 70, 14, 34
_STEPS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400)


@dataclass(slots=True)
class Series:
    """A group over time, column by column."""

    #: When, in seconds since 1970.
    time: list[float] = field(default_factory=list)
    #: ``asked``, ``existing``, ``seen`` and ``demand``, each as long as `time`; not a number where
    #: nobody knows.
    values: dict[str, list[float]] = field(default_factory=dict)
    #: When the size was changed, from what, to what, and why.
    decisions: list[tuple[float, int, int, str]] = field(default_factory=list)


def series(records: Iterable[Record]) -> dict[str, Series]:
    """Sort records by group and column."""
    rows: dict[str, list[Record]] = {}
    for record in records:
        rows.setdefault(str(record["group"]), []).append(record)
    return {group: _series(rows[group]) for group in sorted(rows)}


def _series(rows: Sequence[Record]) -> Series:
    found = Series(values={key: [] for key, _, _ in (*LINES, DEMAND)})
    for row in rows:
        now = float(row["time"])
        if found.time and now - found.time[-1] > GAP:
            _append(found, (found.time[-1] + now) / 2, {})
        _append(found, now, row)
    found.decisions = [
        (change.time, change.before, change.to, f"{change.rule}: {change.text}")
        for change in changes(rows)
        if change.before != change.to
    ]
    return found


def _append(found: Series, now: float, row: Record) -> None:
    found.time.append(now)
    for key, column in found.values.items():
        value = row.get(key)
        column.append(float("nan") if value is None else float(value))


def svg(records: Iterable[Record], title: str) -> str:
    """Draw one panel a group: sizes and decisions above, demand below."""
    groups = series(records)
    first = min(each.time[0] for each in groups.values())
    last = max(first + 1, *(each.time[-1] for each in groups.values()))
    each_height = _TITLE + _SIZES + _BETWEEN + _DEMANDS + 40
    height = 76 + each_height * len(groups)
    span = f"{_moment(first)} to {_moment(last)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' font-family="system-ui, \'DejaVu Sans\', sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
        _text(_LEFT, 30, title, "#0f172a", size=16, weight=600),
        _text(_WIDTH - _RIGHT, 30, span, "#475569", anchor="end"),
        _legend(56),
    ]
    for number, (group, found) in enumerate(groups.items()):
        parts += _panel(group, found, (first, last), 76 + number * each_height)
    return "\n".join([*parts, "</svg>", ""])


def _panel(group: str, found: Series, span: tuple[float, float], top: float) -> list[str]:
    sizes = _Frame(span, top + _TITLE, _SIZES, _top(found, [key for key, _, _ in LINES]))
    below = sizes.y + _SIZES + _BETWEEN
    demand = _Frame(span, below, _DEMANDS, _top(found, [DEMAND[0]], decisions=False))
    parts = [_text(_LEFT, top + 22, group, "#0f172a", size=14, weight=600)]
    parts += [*sizes.axes("members"), *demand.axes("slots"), *demand.times()]
    parts.append(demand.area(found, DEMAND[0], DEMAND[2]))
    parts.append(sizes.area(found, "seen", "#0f766e"))
    parts += [sizes.line(found, key, colour) for key, _, colour in LINES]
    for at, before, to, why in _thinned(found.decisions):
        parts.append(sizes.mark(at, before, to, why))
    return parts


@dataclass(frozen=True, slots=True)
class _Frame:
    """A rectangle with a time axis and an axis of values from 0 to `most`."""

    span: tuple[float, float]
    y: float
    height: float
    most: float

    def at(self, time: float) -> float:
        first, last = self.span
        return _LEFT + (time - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        return self.y + self.height * (1 - value / self.most)

    def axes(self, unit: str) -> list[str]:
        middle = self.y + self.height / 2
        parts = [
            f'<text transform="translate(20 {middle:.1f}) rotate(-90)" text-anchor="middle"'
            f' fill="#475569" font-size="11">{unit}</text>'
        ]
        for value in dict.fromkeys((0, self.most if self.most < 2 else self.most // 2, self.most)):
            y = self.up(value)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#e2e8f0"/>')
            parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", "#475569", anchor="end"))
        return parts

    def times(self) -> list[str]:
        first, last = self.span
        step = next((each for each in _STEPS if (last - first) / each <= 8), 30 * 86400)
        # Ticks at round times of the reader's own clock.
        shift = datetime.fromtimestamp(first).astimezone().utcoffset()
        offset = shift.total_seconds() if shift else 0.0
        tick = ((first + offset) // step + 1) * step - offset
        parts = []
        while tick < last:
            x = self.at(tick)
            parts.append(
                f'<path d="M{x:.1f} {self.y + self.height}v5" stroke="#475569"/>'
                + _text(x, self.y + self.height + 18, _tick(tick, step), "#475569", "middle")
            )
            tick += step
        return parts

    def line(self, found: Series, key: str, colour: str) -> str:
        path = "".join(f"M{' L'.join(piece)}" for piece in self._steps(found, key))
        return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'

    def area(self, found: Series, key: str, colour: str) -> str:
        floor = f"{self.up(0):.1f}"
        path = ""
        for piece in self._steps(found, key):
            start, end = piece[0].split()[0], piece[-1].split()[0]
            path += f"M{start} {floor} L{' L'.join(piece)} L{end} {floor}Z"
        return f'<path d="{path}" fill="{colour}" fill-opacity="0.15"/>'

    def _steps(self, found: Series, key: str) -> list[list[str]]:
        """Draw a value that holds until the next one; a gap ends one piece."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for time, value in _compressed(found.time, found.values[key], self.span):
            if isnan(value):
                pieces.append([])
                continue
            if pieces[-1]:
                pieces[-1].append((time, pieces[-1][-1][1]))
            pieces[-1].append((time, value))
        return [
            [f"{self.at(time):.1f} {self.up(value):.1f}" for time, value in piece]
            for piece in pieces
            if len(piece) > 1
        ]

    def mark(self, at: float, before: int, to: int, why: str) -> str:
        x, y, grows = self.at(at), self.up(to), to > before
        tip, colour = (-9, UP) if grows else (9, DOWN)
        return (
            f'<path d="M{x:.1f} {y + tip:.1f}l5 {-tip}h-10z" fill="{colour}">'
            f"<title>{escape(f'{_moment(at)}: {before} to {to}; {why}')}</title></path>"
        )


def _compressed(
    times: Sequence[float], values: Sequence[float], span: tuple[float, float]
) -> list[tuple[float, float]]:
    """Leave points out that draw nothing: no change, or more of them than can be seen."""
    width = (span[1] - span[0]) / POINTS
    kept: list[tuple[float, float]] = []
    for place, (time, value) in enumerate(zip(times, values, strict=True)):
        if place in (0, len(times) - 1) or isnan(value) or isnan(kept[-1][1]):
            kept.append((time, value))
        elif time - kept[-1][0] < width:
            # The highest of those that share a place is the one to see.
            kept[-1] = (kept[-1][0], max(value, kept[-1][1]))
        elif value != kept[-1][1]:
            kept.append((time, value))
    return kept


def _thinned(decisions: Sequence[tuple[float, int, int, str]]) -> list[tuple[float, int, int, str]]:
    step = max(1, len(decisions) // 400)
    return list(decisions[::step])


def _top(found: Series, keys: Iterable[str], decisions: bool = True) -> float:
    values = [v for key in keys for v in found.values[key] if not isnan(v)]
    values += [float(to) for _, _, to, _ in found.decisions] if decisions else []
    return _nice(max([1.0, *values]))


def _nice(value: float) -> float:
    """Round up to a number that stands well beside an axis."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    return next(
        (power * each for each in (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * each >= value),
        value,
    )


def _legend(y: float) -> str:
    parts, x = [], float(_LEFT)
    for _, words, colour in (*LINES, DEMAND):
        parts.append(f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(x + 24, y, words, "#475569"))
        x += 44 + 6.6 * len(words)
    for words, colour, tip in (("grows", UP, -9), ("shrinks", DOWN, 9)):
        parts.append(f'<path d="M{x + 9} {y - 4 + tip / 2}l5 {-tip}h-10z" fill="{colour}"/>')
        parts.append(_text(x + 24, y, words, "#475569"))
        x += 44 + 6.6 * len(words)
    return "".join(parts)


def _text(
    x: float, y: float, words: str, colour: str, anchor: str = "", size: int = 12, weight: int = 0
) -> str:
    more = f' text-anchor="{anchor}"' if anchor else ""
    more += f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}"{more}>'
        f"{escape(words)}</text>"
    )


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}"


def _tick(time: float, step: float) -> str:
    at = datetime.fromtimestamp(time)
    if step >= 86400:
        return f"{at:%d %b}"
    return f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
