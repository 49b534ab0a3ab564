"""The small run of `make bench-scaler`: its tables, the scale, and the simulator beside reality."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.scaler import reality, report, scale
from benchmarks.scaler.deciders import INTERVAL, Ours
from benchmarks.scaler.fleet import Platform
from benchmarks.scaler.measure import Outcome
from benchmarks.scaler.playing import jobs, played
from benchmarks.scaler.run import WHO, decider, play
from benchmarks.scaler.tasks import ANY, Prefix, Request, Task
from benchmarks.scaler.traces import GPU, TRACES, cpu
from benchmarks.scaler.world import Trace, World
from perennial.scaler.settings import Settings
from perennial.scaler.timing import SOONEST
from perennial.scaler.values import Decisions, Rules, Signature

PAGE = Path(__file__).parents[2] / "docs/concepts/scaler-benchmark.md"
#: Of the traces that take long, what the page says comes from the full run alone.
SMALL = [name for name in TRACES if name not in ("ramp", "diurnal")]
START_UPS = [4.0, 60.0]


# When ours looks


class Idler:
    """Decides nothing; remembers when it was asked."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def decide(self, *args: object) -> Decisions:
        self.times.append(float(args[-1]))  # type: ignore[arg-type]
        return Decisions({})

    def detail(self, *args: object) -> tuple[str, ...]:
        return ()


def looks(*requests: Request, interval: float = 5.0) -> list[float]:
    """When ours looks at work that nobody is there for, within 30 s."""
    trace = Trace("looks", Rules((cpu(1.0),)), list(requests), limit=30.0)
    idler = Idler()
    World(trace, Platform(1.0)).run(Ours(idler.decide, idler.detail, interval))
    return idler.times


def test_ours_looks_as_often_as_the_product() -> None:
    assert Settings("a", "local", "tcp://127.0.0.1:1", Path()).interval == INTERVAL
    ours = decider("ours", "burst", 4.0, 0)
    assert isinstance(ours, Ours)
    assert ours.interval == INTERVAL


@pytest.mark.parametrize("needs", [ANY, GPU])
def test_ours_looks_at_once_when_work_finds_nobody_and_nobody_waited(needs: Signature) -> None:
    works = [Request(time, [Task(Prefix("work"), 1.0, needs)]) for time in (12.3, 14.0)]
    first, second, *others = looks(*works)
    assert first < 5.0
    assert second == pytest.approx(first + 5)
    assert others == pytest.approx([12.3, 17.3, 22.3, 27.3])


def test_ours_never_looks_sooner_than_the_loop_may() -> None:
    kinds = [Signature(((f"R{i}", 1.0),)) for i in range(40)]
    requests = [
        Request(10 + i / 10, [Task(Prefix("work"), 1.0, needs)]) for i, needs in enumerate(kinds)
    ]
    times = looks(*requests)
    assert min(b - a for a, b in pairwise(times)) == pytest.approx(5 * SOONEST)
    assert sum(10 <= time <= 14 for time in times) >= 4, "each kind is news"


# The tables


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [
        play(trace, start_up, seed, who)
        for trace in SMALL
        for start_up in START_UPS
        for seed in range(3)
        for who in ("ours", "adaptive")
    ]


def known() -> set[report.Key]:
    """Where the page says that ours, as the product is, is dominated."""
    part = PAGE.read_text().split("### Beside Dask's Adaptive")[1]
    table = re.split(r"\n\n(?=[^|])", part[part.index("| trace") :])[0]
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) s \|.*\| ours is dominated \|$", table, re.M)
    return {(trace, float(start_up)) for trace, start_up in rows}


def test_every_request_of_ours_ends(outcomes: list[Outcome]) -> None:
    ours = [each for each in outcomes if each.who == "ours"]
    assert len(ours) == 3 * len(SMALL) * len(START_UPS)
    assert all(math.isfinite(each.makespan) and math.isfinite(each.latency) for each in ours)
    assert all(each.numbers["lost"] == each.numbers["recomputed"] == 0 for each in ours)


def test_ours_is_dominated_only_where_the_page_says_so(outcomes: list[Outcome]) -> None:
    assert set(report.lost(outcomes)) <= known()
    assert "it never ends, ours does" in report.beside_adaptive(outcomes)


def test_some_setting_is_not_dominated_wherever_ours_by_itself_is(
    outcomes: list[Outcome],
) -> None:
    cells, knob = report.lost(outcomes), "idle 0, step_down 1"
    more = [play(*cell, seed, knob) for cell in cells for seed in range(3)]
    rows = report.front([*outcomes, *more], [knob]).splitlines()[2:]
    assert len(rows) == 2 * len(cells)
    for default, turned in zip(rows[::2], rows[1::2], strict=True):
        assert "dominated" in default
        assert "`idle: 0 s`, `step_down: 1`" in turned
        assert "dominated" not in turned


def test_tables_have_a_row_for_everybody() -> None:
    wanted = jobs(["burst", "mix"], [4.0, 60.0], 1, WHO)
    found = list(played(wanted))
    assert len(found) == len(wanted) == 2 * (7 + 8)
    assert report.tables(found).count("\n| 60 s |") == 7 + 8
    assert report.elastic(found).count("| ours |") == 4
    assert report.summary(found).count("| ours | 4 of 4 |") == 1
    assert report.summary(found).count("| adaptive | 2 of 4 |") == 1


# The scale


@pytest.mark.quiet
def test_a_decision_over_ten_thousand_workers_is_quick() -> None:
    found = scale.main(quick=True)
    assert found["workers"] > 0.9 * scale.GROUPS * scale.MEMBERS
    assert found["ticks"] >= 3600 * found["hours"] / scale.INTERVAL
    assert found["median_ms"] <= 2 * scale.GOAL_TICK
    assert found["p99_ms"] <= 5 * scale.GOAL_TICK


# Reality


@pytest.mark.lab
def test_the_simulator_is_near_a_real_cluster() -> None:
    (found,) = reality.compared(reality.QUICK, times=1)
    assert found.within(0.4), found.rows()
    assert found.real[0]["starts"] == found.virtual[0]["starts"] == 3


@pytest.mark.lab
def test_the_simulator_is_near_a_real_cluster_for_bursts() -> None:
    (found,) = reality.compared(reality.CASES[:1], times=1)
    assert found.within(0.25), found.rows()
