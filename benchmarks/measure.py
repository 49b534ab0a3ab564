"""Measure pairs turn by turn, so that a noisy machine is noisy for both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Parameters
    ----------
    name : str
        What was measured.
    value : float
        Median: of the ratios of each turn, or of the values themselves.
    low, high : float
        Smallest and largest.
    bound : float
        What was asked.
    at_most : bool
        Whether the value may not exceed the bound; else it must reach it.
    unit : str
        Unit of the value; ``×`` for a ratio.
    detail : str
        The medians behind a ratio.
    """

    name: str
    value: float
    low: float
    high: float
    bound: float
    at_most: bool = True
    unit: str = "×"
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def with_detail(self, detail: str) -> Figure:
        """Say what is behind it."""
        return replace(self, detail=detail)


@dataclass(slots=True)
class Chosen:
    """The figures that are asked for, each printed as soon as it is measured.

    Parameters
    ----------
    only : str or None
        Their letters; None for all.
    figures : list of Figure
        Those that were measured.
    """

    only: str | None = None
    figures: list[Figure] = field(default_factory=list)

    def has(self, letters: str) -> bool:
        """Whether one of some figures is asked for."""
        return self.only is None or not set(self.only).isdisjoint(letters)

    def take(self, letter: str, run: Callable[[], Figure]) -> None:
        """Measure a figure, if it is asked for."""
        if self.has(letter):
            self.figures.append(run())
            print(table(self.figures[-1:]).splitlines()[-1], file=sys.stderr, flush=True)


def clock(run: Callable[[], object]) -> float:
    """Seconds that something takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(
    name: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    bound: float,
    repeats: int,
    at_most: bool = True,
) -> Figure:
    """Measure two things in turn and divide, turn by turn: times, or their speeds.

    Parameters
    ----------
    name : str
        What is measured.
    ours, theirs : callable
        Each returns the seconds of one run.
    bound : float
        What was asked of the ratio.
    repeats : int
        Number of turns; who goes first changes with each.
    at_most : bool
        Whether the ratio is that of the times and may not exceed the bound; else it is that of
        the speeds and must reach it.
    """
    pairs = []
    for turn in range(repeats):
        if turn % 2:
            second = theirs()
            pairs.append((ours(), second))
        else:
            pairs.append((ours(), theirs()))
    ratios = [mine / other if at_most else other / mine for mine, other in pairs]
    mine, other = median(m for m, _ in pairs), median(o for _, o in pairs)
    return Figure(
        name,
        median(ratios),
        min(ratios),
        max(ratios),
        bound,
        at_most,
        detail=f"{mine:.2f} s and {other:.2f} s",
    )


def absolute(
    name: str, run: Callable[[], float], bound: float, repeats: int, unit: str = "s"
) -> Figure:
    """Measure one thing by itself."""
    values = [run() for _ in range(repeats)]
    return Figure(name, median(values), min(values), max(values), bound, unit=unit)


def table(figures: list[Figure]) -> str:
    """Format figures as a Markdown table."""
    lines = [
        "| figure | median | spread | asked | behind it | |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        lines.append(
            f"| {figure.name} | {figure.value:.2f} {figure.unit} "
            f"| {figure.low:.2f} – {figure.high:.2f} "
            f"| {sign} {figure.bound:g} | {figure.detail} "
            f"| {'met' if figure.met else '**missed**'} |"
        )
    return "\n".join(lines)
