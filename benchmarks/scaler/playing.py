"""Play many runs, on all processors, and say how far it has come."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from benchmarks.scaler.measure import Outcome
from benchmarks.scaler.run import foreseen, play

#: Trace, start-up time, seed, and who decides.
Job = tuple[str, float, int, str]


def jobs(
    traces: Iterable[str], start_ups: Sequence[float], seeds: int, whos: Iterable[str]
) -> list[Job]:
    """List all runs; the clairvoyant and the bound belong to each trace."""
    every = ("clairvoyant", "bound", *whos)
    return [
        (trace, start_up, seed, who)
        for trace in traces
        for start_up in start_ups
        for seed in range(seeds)
        for who in every
        if trace == "mix" or who != "adaptive both"
    ]


def one(job: Job) -> Outcome:
    """Do one of them."""
    trace, start_up, seed, who = job
    if who not in ("clairvoyant", "bound"):
        return play(trace, start_up, seed, who)
    known, best = foreseen(trace, start_up, seed)
    if who == "clairvoyant":
        return best
    bound = known.bound
    return Outcome(trace, who, start_up, seed, bound.makespan, bound.latency, bound.cost)


def played(wanted: Sequence[Job]) -> Iterator[Outcome]:
    """Do all of them, in their order."""
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for i, outcome in enumerate(processes.map(one, wanted), 1):
            name = f"{outcome.trace}, {outcome.start_up:g} s, {outcome.who}"
            print(f"{i} of {len(wanted)}: {name}", file=sys.stderr, flush=True)
            yield outcome
