"""Small plots as SVG, without a library: lines over time, and points on two logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

COLOURS = {
    "demand": "#9a9a9a",
    "asked": "#e08a00",
    "there": "#0b6e99",
    "ours": "#0b6e99",
    "ours 5 s": "#57a7c9",
    "adaptive": "#c0392b",
    "adaptive both": "#e59a92",
    "fixed": "#7f7f7f",
    "clairvoyant": "#2e8b57",
    "replayed": "#8fc7a5",
}


@dataclass
class Panel:
    """A rectangle with axes.

    Parameters
    ----------
    title : str
        What it shows.
    left, top, width, height : float
        Where it is.
    parts : list of str
        What has been drawn.
    """

    title: str
    left: float
    top: float
    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, anchor: str = "start", size: int = 11) -> None:
        """Write something."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="#333">{escape(words)}</text>'
        )

    def line(
        self, points: Iterable[Point], colour: str, width: float = 1.6, dash: str = ""
    ) -> None:
        """Draw a line through points of the picture."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}"{dashed}/>'
        )

    def frame(self) -> None:
        """Draw the axes and the title."""
        right, bottom = self.left + self.width, self.top + self.height
        corners = [(self.left, self.top), (self.left, bottom), (right, bottom)]
        self.line(corners, "#333", 1)
        self.text(self.left, self.top - 8, self.title, size=12)


def ticks(most: float, wanted: int = 5) -> list[float]:
    """Choose round numbers from 0 to at most a number."""
    raw = most / wanted
    power = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    return [i * step for i in range(int(most / step) + 1)]


def steps(
    title: str, at: Point, size: Point, lines: Mapping[str, Sequence[Point]], most: Point
) -> Panel:
    """Draw lines over time, each value kept until the next."""
    panel = Panel(title, *at, *size)

    def place(x: float, y: float) -> Point:
        return (
            panel.left + x / most[0] * panel.width,
            panel.top + (1 - y / most[1]) * panel.height,
        )

    for value in ticks(most[0], 6):
        x, y = place(value, 0)
        panel.text(x, y + 14, f"{value:g} s", "middle", 10)
    for value in ticks(most[1], 4):
        x, y = place(0, value)
        panel.line([(x, y), (x + panel.width, y)], "#e4e4e4", 1)
        panel.text(x - 4, y + 4, f"{value:g}", "end", 10)
    for name, points in lines.items():
        path: list[Point] = []
        for x, y in points:
            if path:
                path.append((place(x, 0)[0], path[-1][1]))
            path.append(place(x, y))
        panel.line(thinned(path), COLOURS[name], 1.8, "4 3" if name == "asked" else "")
    panel.frame()
    return panel


def thinned(path: Sequence[Point]) -> list[Point]:
    """Leave out points that lie on a straight line between their neighbours."""
    kept: list[Point] = []
    for point in path:
        while len(kept) > 1 and any(abs(kept[-2][i] - point[i]) < 0.05 for i in (0, 1)):
            i = 0 if abs(kept[-2][0] - point[0]) < 0.05 else 1
            if abs(kept[-1][i] - point[i]) >= 0.05:
                break
            kept.pop()
        kept.append(point)
    return kept


def points(
    title: str, at: Point, size: Point, marks: Mapping[str, Sequence[Point]], most: Point
) -> Panel:
    """Draw points on two logarithmic axes that begin at a half."""
    panel = Panel(title, *at, *size)
    low = math.log2(0.5)

    def place(x: float, y: float) -> Point:
        across = (math.log2(min(x, most[0])) - low) / (math.log2(most[0]) - low)
        up = (math.log2(min(y, most[1])) - low) / (math.log2(most[1]) - low)
        return panel.left + across * panel.width, panel.top + (1 - up) * panel.height

    for axis, end in enumerate(most):
        for power in range(-1, int(math.log2(end)) + 1):
            value = 2.0**power
            x, y = place(value, 0.5) if axis == 0 else place(0.5, value)
            if axis == 0:
                panel.line([(x, y), (x, y - panel.height)], "#e4e4e4", 1)
                panel.text(x, y + 14, f"{value:g}×", "middle", 10)
            else:
                panel.line([(x, y), (x + panel.width, y)], "#e4e4e4", 1)
                panel.text(x - 4, y + 4, f"{value:g}×", "end", 10)
    for name, found in marks.items():
        for x, y in found:
            across, up = place(x, y)
            panel.parts.append(
                f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{COLOURS[name]}" '
                'fill-opacity="0.8"/>'
            )
    panel.frame()
    return panel


def picture(panels: Sequence[Panel], width: float, height: float, legend: Sequence[str]) -> str:
    """Put panels and a legend together."""
    key = Panel("", 0, 0, 0, 0)
    x = 50.0
    for name in legend:
        key.line([(x, 16), (x + 18, 16)], COLOURS[name], 3)
        key.text(x + 23, 20, name)
        x += 36 + 7 * len(name)
    body = "\n".join(part for panel in [key, *panels] for part in panel.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )
