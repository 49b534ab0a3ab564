"""What is measured of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.scaler.schedule import feasible
from benchmarks.scaler.world import Sample, World


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run.

    Parameters
    ----------
    trace, who, start_up, seed
        What was run.
    makespan : float
        When the last feasible request had ended; infinite when it never did.
    latency : float
        95th percentile of the seconds from a request to its last result.
    cost : float
        Price × seconds from asking for a member until it is stopped, over all members and until
        the tail after the last request has passed.
    numbers : dict
        All other metrics.
    """

    trace: str
    who: str
    start_up: float
    seed: int
    makespan: float
    latency: float
    cost: float
    numbers: dict[str, float] = field(default_factory=dict)


def outcome(world: World, who: str) -> Outcome:
    """Measure a world that has run."""
    fleets, model = world.fleets.values(), world.model
    waits = [r.ended - r.begun if r.ended is not None else math.inf for r in feasible(world.trace)]
    bills = {fleet.group.name: fleet.bill() for fleet in fleets}
    paid = sum(bills[f.group.name][0] * f.group.slots for f in fleets)
    numbers = {
        "worker_seconds": sum(served for _, served in bills.values()),
        "paid_seconds": sum(paid for paid, _ in bills.values()),
        "wasted": paid - model.useful,
        "mean_latency": sum(waits) / len(waits),
        "starts": sum(fleet.starts for fleet in fleets),
        "stops": sum(fleet.stops for fleet in fleets),
        "failed_starts": sum(fleet.failures for fleet in fleets),
        "recomputed": model.recomputed,
        "lost": model.lost,
        "stolen": model.moves,
        **elasticity([(f.group.max * f.group.slots, world.samples[f.group.name]) for f in fleets]),
    }
    return Outcome(
        *(world.trace.name, who, world.platform.start_up, world.seed),
        makespan=math.inf if world.end is None else world.end,
        latency=percentile(waits, 0.95),
        cost=sum(fleet.group.cost * bills[fleet.group.name][0] for fleet in fleets),
        numbers=numbers,
    )


def percentile(values: Sequence[float], part: float) -> float:
    """Give the smallest value that so large a part of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def elasticity(groups: Sequence[tuple[int, Sequence[Sample]]]) -> dict[str, float]:
    """Give the SPEC Research Group's elasticity metrics, as means over groups with demand.

    With demand ``d`` and supply ``s`` in slots at ``n`` steps of time, and ``R`` slots at most:

    - accuracy: under ``Σ max(d - s, 0) / (n R)``, over ``Σ max(s - d, 0) / (n R)``;
    - timeshare: under ``Σ [d > s] / n``, over ``Σ [s > d] / n``;
    - instability: ``Σ [sgn Δd ≠ sgn Δs] / (n - 1)``.

    Sources: Herbst and others, "Ready for Rain? A View from SPEC Research on the Future of Cloud
    Metrics", SPEC-RG-2016-01; Ilyushkin and others, "An Experimental Performance Evaluation of
    Autoscalers for Complex Workflows", ACM TOMPECS 3(2), 2018.

    Parameters
    ----------
    groups : sequence of (int, sequence of Sample)
        Slots at most, and the samples, of each group.
    """
    found = [_elasticity(*group) for group in groups if any(s.demand for s in group[1])]
    keys = ("under", "over", "under_time", "over_time", "instability")
    return {key: sum(one[i] for one in found) / max(len(found), 1) for i, key in enumerate(keys)}


def _elasticity(most: int, samples: Sequence[Sample]) -> tuple[float, ...]:
    n = len(samples)
    pairs = [(s.demand, s.there) for s in samples]
    return (
        sum(max(d - s, 0) for d, s in pairs) / (n * most),
        sum(max(s - d, 0) for d, s in pairs) / (n * most),
        sum(d > s for d, s in pairs) / n,
        sum(s > d for d, s in pairs) / n,
        sum(_sign(d2 - d1) != _sign(s2 - s1) for (d1, s1), (d2, s2) in pairwise(pairs))
        / max(n - 1, 1),
    )


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
