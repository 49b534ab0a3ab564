"""`make bench-scaler`: play the traces, print the tables, draw the plots.

Without a part it does all of them in full: every number, table and plot of
docs/concepts/scaler-benchmark.md. The parts are --traces, --knobs, --front, --scale, --reality.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.scaler import report
from benchmarks.scaler.deciders import Ours
from benchmarks.scaler.measure import Outcome
from benchmarks.scaler.playing import Job, jobs, played
from benchmarks.scaler.run import IDLE, KNOBS, WHO, decider, prepared
from benchmarks.scaler.traces import TRACES

#: Traces that take no time: the small run of CI, and those that are played with other settings.
QUICK = ("burst", "long tail", "memory", "mix", "interactive")
#: What can be asked for by itself.
PARTS = {
    "traces": "time, cost and elasticity of each trace, and the plots",
    "knobs": "ours with other idle times",
    "front": "ours with other settings, where Adaptive dominates it",
    "scale": "10,000 workers for a day",
    "reality": "traces on a real cluster; fails where the simulator is off",
}


def log(trace: str, start_up: float, seed: int) -> None:
    """Print each decision that changed something."""
    ours = decider("ours", trace, start_up, seed)
    assert isinstance(ours, Ours)
    world = prepared(trace, start_up, seed, "ours")
    world.run(ours)
    for now, one in ours.log:
        print(f"{now:9.1f}  {one.group}: {one.current} → {one.to}  [{one.rule}] {one.reason}")
    print(f"ended at {world.end}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench-scaler", description=__doc__)
    for part, does in PARTS.items():
        parser.add_argument(f"--{part}", action="store_true", help=does)
    parser.add_argument("--quick", action="store_true", help="a small run of each part")
    parser.add_argument("--only", help=f"traces, of: {', '.join(TRACES)}")
    parser.add_argument("--start-up", default="4,60,180", help="seconds")
    parser.add_argument("--who", help=f"of: {', '.join([*WHO, *KNOBS])}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all outcomes of traces here")
    parser.add_argument("--read", type=Path, nargs="+", help="files of --json, not played again")
    parser.add_argument("--plots", type=Path, help="folder for plots; in full docs/images")
    parser.add_argument("--log", metavar="TRACE", help="print what ours decides, and stop")
    return parser.parse_args()


class Run:
    """What is played in one call; parts use each other's outcomes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.quick = given.quick
        self.traces = given.only.split(",") if given.only else list(QUICK if self.quick else TRACES)
        self.start_ups = [float(one) for one in given.start_up.split(",")][: 2 if self.quick else 9]
        self.seeds = 1 if self.quick else given.seeds
        self.outcomes: list[Outcome] = []
        for file in given.read or ():
            self.outcomes += [Outcome(**one) for one in json.loads(file.read_text())]
        self._known = {(o.trace, o.start_up, o.seed, o.who) for o in self.outcomes}

    def play(self, wanted: list[Job]) -> list[Outcome]:
        """Play what has not been played yet; give all outcomes of what is wanted."""
        missing = [job for job in wanted if job not in self._known]
        self.outcomes += played(missing)
        self._known.update(missing)
        asked = set(wanted)
        return [o for o in self.outcomes if (o.trace, o.start_up, o.seed, o.who) in asked]

    def traces_part(self, whos: list[str], plots: Path | None) -> None:
        """Print what comes of each trace."""
        found = self.play(jobs(self.traces, self.start_ups, self.seeds, whos))
        show("Results (--traces)", report.summary(found))
        for who in (who for who in whos if who.startswith("ours")):
            show(f"{who}, beside Adaptive (--traces)", report.beside_adaptive(found, who))
        show("All figures (--traces)", report.tables(found))
        show("Elasticity (--traces)", report.elastic(found))
        if plots:
            from benchmarks.scaler.plots import draw

            draw(found, plots)
            print(f"plots: {plots}/scaler-*.svg", file=sys.stderr)

    def knobs(self) -> None:
        """Print what idle times buy."""
        traces = [trace for trace in self.traces if trace in QUICK]
        found = self.play(jobs(traces, self.start_ups, self.seeds, IDLE))
        show("Other idle times (--knobs)", report.summary(found))

    def front(self) -> None:
        """Print all settings where ours is dominated by itself."""
        found = self.play(jobs(self.traces, self.start_ups, self.seeds, ["ours", "adaptive"]))
        for trace, start_up in report.lost(found):
            found += self.play(jobs([trace], [start_up], self.seeds, KNOBS))
        show("The front where ours is dominated (--front)", report.front(found, KNOBS))


def show(title: str, table: str) -> None:
    """Print a table under its title."""
    print(f"## {title}\n\n{table}\n", flush=True)


def main() -> int:
    """Run what is asked for; give the exit code."""
    given = arguments()
    if given.log:
        log(given.log, float(given.start_up.split(",")[0]), 0)
        return 0
    asked = {part for part in PARTS if getattr(given, part)}
    if given.only or given.who or given.read:
        asked = asked or {"traces"}
    asked = asked or set(PARTS)
    run, failed = Run(given), False
    if "traces" in asked:
        whos = given.who.split(",") if given.who else list(WHO)
        whos = whos[:3] if given.quick and not given.who else whos
        full = asked == set(PARTS) and not given.quick
        run.traces_part(whos, given.plots or (Path("docs/images") if full else None))
    if "knobs" in asked:
        run.knobs()
    if "front" in asked:
        run.front()
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in run.outcomes], indent=1) + "\n")
    if "scale" in asked:
        from benchmarks.scaler.scale import main as scale

        scale(given.quick)
    if "reality" in asked:
        from benchmarks.scaler.reality import main as reality

        failed = not reality(given.quick)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
