"""`make bench-scaler`: play the traces, print the tables, draw the plots."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.scaler.deciders import Ours
from benchmarks.scaler.measure import Outcome
from benchmarks.scaler.report import beside_adaptive, elastic, summary, tables
from benchmarks.scaler.run import KNOBS, WHO, decider, foreseen, play, prepared
from benchmarks.scaler.traces import TRACES

#: The small run of CI: every kind of trace but those that take long.
QUICK = ("burst", "long tail", "memory", "mix", "interactive")
#: Left out, since a day of 86,400 decisions takes long and shows nothing new.
DEAR = {("ours 1 s", "diurnal")}


def measure(
    traces: Iterable[str], start_ups: Iterable[float], seeds: int, whos: Iterable[str]
) -> Iterator[Outcome]:
    """Play everything."""
    for trace in traces:
        for start_up in start_ups:
            for seed in range(seeds):
                known, best = foreseen(trace, start_up, seed)
                yield best
                bound = Outcome(
                    *(trace, "bound", start_up, seed),
                    *(known.bound.makespan, known.bound.latency, known.bound.cost),
                )
                yield bound
                for who in whos:
                    if trace == "mix" if who == "adaptive both" else (who, trace) not in DEAR:
                        yield play(trace, start_up, seed, who)


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
    parser.add_argument("--quick", action="store_true", help="the small run of CI")
    parser.add_argument("--only", help=f"traces, of: {', '.join(TRACES)}")
    parser.add_argument("--start-up", default="4,60,180", help="seconds")
    parser.add_argument("--who", help=f"of: {', '.join(WHO)}")
    parser.add_argument("--knobs", action="store_true", help="ours with other idle times")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all outcomes here")
    parser.add_argument("--read", type=Path, nargs="+", help="files of --json, not run again")
    parser.add_argument("--plots", type=Path, help="draw plots into this folder")
    parser.add_argument("--log", metavar="TRACE", help="print what ours decides, and stop")
    parser.add_argument("--scale", action="store_true", help="10,000 workers for a day")
    parser.add_argument("--reality", action="store_true", help="three traces on a real cluster")
    return parser.parse_args()


def main() -> None:
    """Run what is asked for."""
    given = arguments()
    start_ups = [float(one) for one in given.start_up.split(",")]
    if given.log:
        log(given.log, start_ups[0], 0)
        return
    if given.scale:
        from benchmarks.scaler.scale import main as scale

        scale(given.quick)
        return
    if given.reality:
        from benchmarks.scaler.reality import main as reality

        reality(given.quick)
        return
    traces = given.only.split(",") if given.only else list(QUICK if given.quick else TRACES)
    whos = given.who.split(",") if given.who else list(WHO)
    whos = list(KNOBS) if given.knobs else whos
    seeds = given.seeds
    if given.quick:
        start_ups, seeds, whos = start_ups[:2], 1, ["ours", "ours 1 s", "adaptive"]
    outcomes = []
    for file in given.read or ():
        outcomes += [Outcome(**one) for one in json.loads(file.read_text())]
    for one in measure(() if given.read else traces, start_ups, seeds, whos):
        print(f"{one.trace}, {one.start_up:g} s, {one.who}", file=sys.stderr, flush=True)
        outcomes.append(one)
    parts = (summary, beside_adaptive, tables, elastic)
    print(*(part(outcomes) for part in parts), sep="\n\n")
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    if given.plots:
        from benchmarks.scaler.plots import draw

        draw(outcomes, given.plots)


if __name__ == "__main__":
    main()
