"""Tables of what was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from benchmarks.scaler.measure import Outcome

#: Traces whose makespan is set by what comes last: there, time is the latency of requests.
OPEN = ("ramp", "diurnal")
#: Differences up to this part are no differences.
SAME = 0.01

Key = tuple[str, float]
COLUMNS = {
    "worker_seconds": "worker-s",
    "paid_seconds": "paid s",
    "wasted": "wasted",
    "starts": "starts",
    "stops": "stops",
    "recomputed": "again",
    "lost": "lost",
}
BESIDE = ("time ÷ Adaptive's", "cost ÷ Adaptive's", "")
ELASTICITY = {
    "under": "under",
    "over": "over",
    "under_time": "time under",
    "over_time": "time over",
    "instability": "instability",
}


def merged(outcomes: Iterable[Outcome]) -> dict[Key, dict[str, Outcome]]:
    """Take means over seeds, by trace and start-up, then by who decided."""
    grouped: defaultdict[Key, defaultdict[str, list[Outcome]]]
    grouped = defaultdict(lambda: defaultdict(list))
    for one in outcomes:
        grouped[one.trace, one.start_up][one.who].append(one)
    return {
        key: {who: _mean(found) for who, found in by_who.items()} for key, by_who in grouped.items()
    }


def _mean(found: Sequence[Outcome]) -> Outcome:
    first = found[0]
    numbers = {key: fmean(one.numbers[key] for one in found) for key in first.numbers}
    return Outcome(
        *(first.trace, first.who, first.start_up, -1),
        makespan=fmean(one.makespan for one in found),
        latency=fmean(one.latency for one in found),
        cost=fmean(one.cost for one in found),
        numbers=numbers,
    )


def time(one: Outcome) -> float:
    """Give the time that matters in a trace."""
    return one.latency if one.trace in OPEN else one.makespan


def dominated(ours: Outcome, other: Outcome) -> bool:
    """Whether another is better on one axis, and not worse on the other."""
    pairs = ((time(ours), time(other)), (ours.cost, other.cost))
    return all(b <= a * (1 + SAME) for a, b in pairs) and any(b < a * (1 - SAME) for a, b in pairs)


def verdict(ours: Outcome, other: Outcome) -> str:
    """Say who is better on which axis."""
    if math.isinf(other.makespan):
        return "it never ends, ours does" if math.isfinite(ours.makespan) else "neither ends"
    if dominated(ours, other):
        return "ours is dominated"
    if dominated(other, ours):
        return "ours dominates"
    quicker, cheaper = time(ours) < time(other) * (1 - SAME), ours.cost < other.cost * (1 - SAME)
    if quicker or cheaper:
        return "ours is quicker, not cheaper" if quicker else "ours is cheaper, not quicker"
    return "equal"


def geometric(values: Iterable[float]) -> float:
    """Give the geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(fmean(logs)) if logs else math.nan


def ratios(outcomes: Sequence[Outcome], who: str) -> list[tuple[float, float]]:
    """Give makespan and cost beside the clairvoyant's, for each run that ended."""
    known = {(o.trace, o.start_up, o.seed): o for o in outcomes if o.who == "clairvoyant"}
    found = []
    for one in outcomes:
        best = known.get((one.trace, one.start_up, one.seed))
        if one.who == who and best and math.isfinite(one.makespan):
            found.append((one.makespan / best.makespan, one.cost / best.cost))
    return found


def summary(outcomes: Sequence[Outcome]) -> str:
    """Write the geometric means beside the clairvoyant."""
    lines = _head(["who", "runs that ended", "makespan ÷ clairvoyant", "cost ÷ clairvoyant"])
    for who in dict.fromkeys(one.who for one in outcomes):
        if who in ("clairvoyant", "bound"):
            continue
        found, all_ = ratios(outcomes, who), sum(one.who == who for one in outcomes)
        makespan, cost = geometric(m for m, _ in found), geometric(c for _, c in found)
        lines.append(f"| {who} | {len(found)} of {all_} | {makespan:.3f} | {cost:.3f} |")
    return "\n".join(lines)


def tables(outcomes: Sequence[Outcome]) -> str:
    """Write a table of time and cost for each trace."""
    found, lines = merged(outcomes), []
    head = ["start-up", "who", "makespan", "p95 latency", "cost", *COLUMNS.values()]
    for trace in dict.fromkeys(name for name, _ in found):
        lines += [f"### {trace[0].upper()}{trace[1:]}", "", *_head(head)]
        for (name, start_up), by_who in found.items():
            if name == trace:
                best = by_who["clairvoyant"]
                lines += [_row(start_up, one, best) for one in by_who.values()]
        lines.append("")
    return "\n".join(lines)


def elastic(outcomes: Sequence[Outcome]) -> str:
    """Write a table of the elasticity metrics."""
    lines = _head(["trace", "start-up", "who", *ELASTICITY.values()])
    for (trace, start_up), by_who in merged(outcomes).items():
        for who, one in by_who.items():
            if "under" in one.numbers:
                cells = " | ".join(f"{one.numbers[name]:.2f}" for name in ELASTICITY)
                lines.append(f"| {trace} | {start_up:g} s | {who} | {cells} |")
    return "\n".join(lines)


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |".replace("|  |", "| |"), "|" + "---|" * len(columns)]


def _row(start_up: float, one: Outcome, best: Outcome) -> str:
    def relative(value: float, base: float) -> str:
        if math.isinf(value):
            return "never"
        return f"{value:,.1f}" + ("" if one is best else f" ({value / base:.2f})")

    never = math.isinf(one.makespan)
    cells = [
        relative(one.makespan, best.makespan),
        relative(one.latency, best.latency),
        "–" if never else relative(one.cost, best.cost),
    ]
    for name in COLUMNS:
        value = one.numbers.get(name)
        cells.append("" if value is None or never else f"{value:,.0f}")
    return f"| {start_up:g} s | {one.who} | " + " | ".join(cells) + " |"


def beside_adaptive(outcomes: Sequence[Outcome], who: str = "ours") -> str:
    """Write how ours stands beside Dask's Adaptive, trace by trace."""
    lines = _head(["trace", "start-up", *BESIDE])
    for (trace, start_up), by_who in merged(outcomes).items():
        ours = by_who.get(who)
        for name, other in by_who.items():
            if ours and name.startswith("adaptive"):
                label = trace + ("" if name == "adaptive" else " (workers that have both)")
                lines.append(f"| {label} | {start_up:g} s | {_beside(ours, other)} |")
    return "\n".join(lines)


def _beside(ours: Outcome, other: Outcome) -> str:
    never = math.isinf(time(other))
    quick = "" if never else f"{time(ours) / time(other):.2f}"
    cost = "" if never else f"{ours.cost / other.cost:.2f}"
    return f"{quick} | {cost} | {verdict(ours, other)}"


def lost(outcomes: Sequence[Outcome], who: str = "ours") -> list[Key]:
    """List where Adaptive dominates ours: traces and start-up times."""
    return [
        key
        for key, by_who in merged(outcomes).items()
        if who in by_who and "adaptive" in by_who
        if dominated(by_who[who], by_who["adaptive"])
    ]


def front(outcomes: Sequence[Outcome], whos: Iterable[str]) -> str:
    """Write how ours stands beside Adaptive with each setting, where it is dominated by itself."""
    lines, found = _head(["trace", "start-up", "setting", *BESIDE]), merged(outcomes)
    for trace, start_up in lost(outcomes):
        by_who = found[trace, start_up]
        for who in ("ours", *whos):
            beside = _beside(by_who[who], by_who["adaptive"])
            lines.append(f"| {trace} | {start_up:g} s | {_setting(who, start_up)} | {beside} |")
    return "\n".join(lines)


def _setting(who: str, start_up: float) -> str:
    """Write a setting as an operator would: times in seconds."""
    if who == "ours":
        return "none"
    words = [word.split() for word in who.split(", ")]
    return ", ".join(
        f"`{name}: {float(value):g}`"
        if name == "step_down"
        else f"`{name}: {float(value) * start_up:g} s`"
        for name, value in words
    )
