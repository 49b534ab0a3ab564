"""A page beside Dask's own dashboard: what the scaler sees and decides, live.

It stands on the scheduler's dashboard as ``/scaler``, with a link in the line at the top, and as
a panel that JupyterLab's Dask sidebar offers. So it is reached as Dask's own pages are. What it
shows comes from the reports that the scaler leaves at the scheduler.

The same charts make the HTML page of `perennial history --plot`. Needs Bokeh.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    DataRange1d,
    HoverTool,
)
from bokeh.models.widgets import Div
from bokeh.plotting import figure
from bokeh.resources import INLINE

from perennial.preloads.channel import FIELDS
from perennial.scaler import timing

logger = logging.getLogger("distributed.perennial.page")

#: Path of the page, and of the panel without the dashboard's frame.
PAGE, PANEL = "/scaler", "/individual-scaler"
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
#: Milliseconds between two looks for new records.
INTERVAL = 2_000
#: Groups that are drawn, and points of each.
GROUPS, POINTS = 20, 1_440

_COLUMNS = ("time", "asked", "existing", "seen", "demand", "to", "rule")
_MARKS = ("time", "to", "before", "rule", "colour", "marker")
#: A browser shows times in the zone of its reader; Bokeh alone would show UTC.
_CLOCK = """
const at = new Date(tick), clock = at.toTimeString()
if (clock.startsWith("00:00:00")) return at.toLocaleDateString([], {month: "short", day: "numeric"})
return clock.slice(0, at.getSeconds() ? 8 : 5)
"""
_MOMENT = "return new Date(value).toLocaleString()"


#: Values by column, as Bokeh takes them.
Columns = dict[str, Any]


class Chart:
    """One group: sizes and decisions above, demand below."""

    def __init__(
        self, group: str, points: int | None = POINTS, beside: Chart | None = None
    ) -> None:
        self.points = points
        self.source = ColumnDataSource({name: [] for name in _COLUMNS})
        self.marks = ColumnDataSource({name: [] for name in _MARKS})
        self.newest = 0.0
        self._to: float | None = None
        self.time: DataRange1d = DataRange1d() if beside is None else beside.time
        self.sizes = _frame(220, "members", title=group, x_range=self.time)
        self.demand = _frame(110, "slots", x_range=self.time)
        self._draw()
        self.root = column(self.sizes, self.demand, sizing_mode="stretch_width")

    def _draw(self) -> None:
        for key, _, colour in LINES:
            self.sizes.step(
                *("time", key), source=self.source, mode="after", line_color=colour, line_width=2
            )
        marks = self.sizes.scatter(
            *("time", "to"), source=self.marks, size=10, color="colour", marker="marker"
        )
        key, _, colour = DEMAND
        area = self.demand.varea_step(
            x="time", y1=0, y2=key, source=self.source, step_mode="after", fill_color=colour
        )
        area.glyph.fill_alpha = 0.3
        self.sizes.add_tools(
            HoverTool(
                renderers=[marks],
                tooltips=[
                    ("when", "@time{custom}"),
                    ("size", "@before to @to"),
                    ("rule", "@rule"),
                ],
                formatters={"@time": CustomJSHover(code=_MOMENT)},
            )
        )

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw more records."""
        if not rows:
            return
        data: Columns = {name: [] for name in _COLUMNS}
        marks: Columns = {name: [] for name in _MARKS}
        for row in rows:
            if self.newest and row["time"] - self.newest > GAP:
                self._append(data, {"time": (row["time"] + self.newest) / 2})
            self._append(data, row)
            self._mark(row, marks)
            self.newest = row["time"]
        self.source.stream(data, self.points)
        if marks["time"]:
            self.marks.stream(marks, self.points)

    def _append(self, data: Columns, row: Mapping[str, Any]) -> None:
        numbers = (_number(row.get(name)) for name in _COLUMNS[1:-1])
        values = (row["time"] * 1000.0, *numbers, row.get("rule") or "")
        for name, value in zip(_COLUMNS, values, strict=True):
            data[name].append(value)

    def _mark(self, row: Mapping[str, Any], marks: Columns) -> None:
        to, before = row.get("to"), self._to if self._to is not None else row.get("asked")
        self._to = to if to is not None else self._to
        if to is None or before is None or to == before:
            return
        grows = to > before
        colour, marker = (UP, "triangle") if grows else (DOWN, "inverted_triangle")
        values = (row["time"] * 1000.0, to, before, row.get("rule") or "", colour, marker)
        for name, value in zip(_MARKS, values, strict=True):
            marks[name].append(value)


class Page:
    """The live page of one browser."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.charts: dict[str, Chart] = {}
        self.head = Div(text="", sizing_mode="stretch_width")
        self.root = column(
            self.head, Div(text=legend()), sizing_mode="stretch_width", margin=(10, 20, 10, 20)
        )

    def update(self) -> None:
        """Draw what has come since the last time."""
        channel = _channel(self.scheduler)
        text = headline(channel)
        if text != self.head.text:
            self.head.text = text
        for group in list(channel.records)[:GROUPS] if channel is not None else ():
            chart = self.charts.get(group)
            if chart is not None:
                chart.add(_newer(channel, group, chart.newest))
                continue
            # Filled before it is shown: a browser finds no end of an axis without data.
            self.charts[group] = chart = Chart(group)
            chart.add(_newer(channel, group, chart.newest))
            self.root.children = [*self.root.children, chart.root]


def headline(channel: Any) -> str:
    """Say in HTML whether the scaler is there, what is wrong, and how each group stands."""
    report = channel.report if channel is not None else None
    if report is None:
        return "<p>No scaler has reported to this scheduler yet.</p>"
    said = []
    if channel.age > timing.SILENCE:
        said.append(f"The scaler has not answered for {channel.age:.0f} s.")
    if report.get("trouble"):
        said.append(str(report["trouble"]))
    if report.get("mode") in ("paused", "dry-run"):
        said.append(f"The scaler's mode is {report['mode']}: it changes nothing.")
    for each in report.get("infeasible") or ():
        said.append(str(each["text"] if isinstance(each, Mapping) else each))
    rows = ""
    for name, record in (report.get("groups") or {}).items():
        said += [f"{name}: {record['trouble']}"] if record.get("trouble") else []
        cells = (name, record.get("seen"), record.get("to"), record.get("rule"))
        shown = [html.escape("-" if cell is None else str(cell)) for cell in cells]
        reason = html.escape(str(record.get("reason") or ""))
        rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*shown, reason)) + "</tr>"
    warnings = "".join(f"<p><b>{html.escape(text)}</b></p>" for text in said)
    heads = "".join(f"<th>{word}</th>" for word in ("group", "seen", "wanted", "rule", "why"))
    style = "border-spacing:14px 2px;text-align:left;font-size:13px"
    return f'{warnings}<table style="{style}"><tr>{heads}</tr>{rows}</table>'


def legend() -> str:
    """Say in HTML what each colour means."""
    marks = (("▲ grows", UP), ("▼ shrinks", DOWN))
    lines = [(f"━ {words}", colour) for _, words, colour in (*LINES, DEMAND)]
    return " &nbsp; ".join(
        f'<span style="color:{colour};font-size:13px">{words}</span>'
        for words, colour in (*lines, *marks)
    )


def install() -> None:
    """Put the page among those of Dask's dashboard; before the scheduler makes it."""
    from distributed.dashboard.scheduler import applications

    applications.setdefault(PAGE, page_doc)
    applications.setdefault(PANEL, panel_doc)


def link(scheduler: Any) -> None:
    """Add the page to the line at the top of Dask's own pages."""
    from distributed.dashboard.scheduler import template_variables

    pages = template_variables(scheduler)["pages"]
    if PAGE.strip("/") not in pages:
        pages.append(PAGE.strip("/"))


def panel_doc(scheduler: Any, extra: Mapping[str, Any], doc: Any) -> None:
    """Make the panel for JupyterLab."""
    from distributed.dashboard.components import add_periodic_callback
    from distributed.dashboard.components.scheduler import BOKEH_THEME

    page = Page(scheduler)
    page.update()
    add_periodic_callback(doc, page, INTERVAL)
    doc.add_root(page.root)
    doc.theme = BOKEH_THEME
    doc.title = "Dask: Scaler"


def page_doc(scheduler: Any, extra: Mapping[str, Any], doc: Any) -> None:
    """Make the page in the frame of Dask's own."""
    from distributed.dashboard.components.scheduler import env

    panel_doc(scheduler, extra, doc)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)


def document(records: Iterable[Mapping[str, Any]], title: str) -> str:
    """Write a page of HTML that needs nothing else, for `perennial history --plot`."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        rows.setdefault(str(record["group"]), []).append(record)
    charts: list[Chart] = []
    for group in sorted(rows):
        charts.append(Chart(group, None, charts[0] if charts else None))
        charts[-1].add(rows[group])
        for frame in (charts[-1].sizes, charts[-1].demand):
            frame.output_backend = "svg"  # what the page's own tool saves
    head = Div(text=f"<h2>{html.escape(title)}</h2>{legend()}")
    root = column(
        head, *(each.root for each in charts), sizing_mode="stretch_width", margin=(10, 20, 10, 20)
    )
    return str(file_html(root, INLINE, title))


def _frame(height: int, unit: str, title: str = "", **more: Any) -> Any:
    frame = figure(
        height=height,
        title=title,
        x_axis_type="datetime",
        y_axis_label=unit,
        y_range=DataRange1d(start=0, range_padding=0.15),
        min_border_left=60,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,box_zoom,reset,save",
        **more,
    )
    frame.xaxis.formatter = CustomJSTickFormatter(code=_CLOCK)
    frame.yaxis.ticker = BasicTicker(
        min_interval=1, num_minor_ticks=0, desired_num_ticks=height // 35
    )
    frame.toolbar.logo = None
    frame.toolbar.autohide = True
    return frame


def _channel(scheduler: Any) -> Any:
    plugin = scheduler.plugins.get("perennial-demand")
    return getattr(plugin, "channel", None)


def _newer(channel: Any, group: str, since: float) -> list[Mapping[str, Any]]:
    """Take the records of a group that are newer than a time; looks at no older ones."""
    found: list[Mapping[str, Any]] = []
    for values in reversed(channel.records[group]):
        if values[0] is None or values[0] <= since:
            break
        found.append(dict(zip(FIELDS, values, strict=True)))
    return found[::-1]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
