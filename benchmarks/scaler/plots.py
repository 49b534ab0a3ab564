"""The plots of the documentation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaler.measure import Outcome
from benchmarks.scaler.report import merged, time
from benchmarks.scaler.run import world
from benchmarks.scaler.svg import Panel, Point, picture, points, steps

#: What is drawn over time.
SHOWN = (("burst", 60.0), ("interactive", 60.0), ("mix", 60.0), ("diurnal", 180.0))
#: Points of a line, at most.
POINTS = 600


def draw(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Draw everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaler-front.svg").write_text(front(outcomes))
    for trace, start_up in SHOWN:
        name = f"scaler-{trace.replace(' ', '-')}.svg"
        (folder / name).write_text(over_time(trace, start_up))


def over_time(trace: str, start_up: float) -> str:
    """Draw demand and supply of one trace, ours above Dask's."""
    whos = ("ours", "adaptive both" if trace == "mix" else "adaptive")
    panels: list[Panel] = []
    worlds = {who: world(trace, start_up, 0, who) for who in whos}
    every = [s for one in worlds.values() for samples in one.samples.values() for s in samples]
    end = max(s.time for s in every if s.demand or s.asked)  # until nothing more is paid
    for who, one in worlds.items():
        for group, found in one.samples.items():
            seen = [s for s in found if s.time <= end]
            if not any(s.asked for s in seen):
                continue
            samples = seen[:: 1 + len(seen) // POINTS]
            most = max(1, *(max(s.demand, s.asked) for s in samples))
            lines = {
                key: [(s.time, float(getattr(s, key))) for s in samples]
                for key in ("demand", "asked", "there")
            }
            label = "perennial" if who == "ours" else "Dask's Adaptive"
            title = f"{label}, group {group}" if len(one.samples) > 1 else label
            ended = "never ends" if one.end is None else f"ends at {one.end:,.0f} s"
            top = 50 + 190 * len(panels)
            panels.append(
                steps(f"{title}: {ended}", (50, top), (680, 130), lines, (end, most * 1.1))
            )
    return picture(panels, 760, 50 + 190 * len(panels), ("demand", "asked", "there"))


def front(outcomes: Sequence[Outcome]) -> str:
    """Draw time and cost beside the clairvoyant, a panel for each trace."""
    by_trace: defaultdict[str, defaultdict[str, list[Point]]]
    by_trace = defaultdict(lambda: defaultdict(list))
    for (trace, _), by_who in merged(outcomes).items():
        best = by_who["clairvoyant"]
        for who, one in by_who.items():
            if who in ("ours", "adaptive", "fixed") and math.isfinite(one.makespan):
                by_trace[trace][who].append((time(one) / time(best), one.cost / best.cost))
    panels = []
    for i, (trace, marks) in enumerate(by_trace.items()):
        at = (50.0 + 240 * (i % 3), 60.0 + 230 * (i // 3))
        panels.append(points(f"{trace}: time →, cost ↑", at, (180, 160), marks, (64.0, 8.0)))
    rows = math.ceil(len(panels) / 3)
    return picture(panels, 760, 40 + 230 * rows, ("ours", "adaptive", "fixed"))
