"""Play traces with somebody who decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from benchmarks.scaler.adaptive import Adaptive
from benchmarks.scaler.bound import Known, known
from benchmarks.scaler.deciders import INTERVAL, Fixed, Ours, Replayed
from benchmarks.scaler.fleet import Platform
from benchmarks.scaler.measure import Outcome, outcome, percentile
from benchmarks.scaler.traces import TRACES
from benchmarks.scaler.world import Decider, World
from perennial.scaler.values import Group, Rules

#: Who may decide: ours as the product does by itself and with a look each 5 s, Dask's own, all
#: members from begin to end, and the clairvoyant's plan carried out in Dask's world, where no
#: start fails.
WHO = ("ours", "ours 5 s", "adaptive", "adaptive both", "fixed", "replayed")
#: Ours, whose members may leave when idle for this part of their start-up.
IDLE: Mapping[str, Mapping[str, float]] = {
    f"idle {part:g}": {"idle": part} for part in (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
}
#: Ours with other rules of its groups; times are parts of the start-up.
KNOBS: Mapping[str, Mapping[str, float]] = {
    **IDLE,
    "horizon 0.25": {"horizon": 0.25},
    "horizon 1": {"horizon": 1.0},
    "step_down 1": {"step_down": 1.0},
    "idle 0, horizon 1": {"idle": 0.0, "horizon": 1.0},
    "idle 0, step_down 1": {"idle": 0.0, "step_down": 1.0},
}


def decider(who: str, trace: str, start_up: float, seed: int) -> Decider:
    """Make somebody who decides."""
    if who.startswith("ours") or who in KNOBS:
        from perennial.scaler.policy import decide, detail_wanted

        return Ours(decide, detail_wanted, 5.0 if who == "ours 5 s" else INTERVAL)
    if who == "fixed":
        return Fixed()
    if who == "replayed":
        return Replayed(known(TRACES[trace](seed, start_up), start_up).members)
    return Adaptive("gpu" if who == "adaptive both" else "cpu")


def prepared(trace: str, start_up: float, seed: int, who: str) -> World:
    """Make the world for a trace."""
    failing = 0.0 if who == "replayed" else 0.05
    work = TRACES[trace](seed, start_up)
    if who == "adaptive both":  # one kind of worker, which has everything
        plain, special = work.rules.groups
        work.rules = Rules((dataclasses.replace(special, max=plain.max),))
    if who in KNOBS:
        work.rules = Rules(tuple(turned(group, KNOBS[who]) for group in work.rules.groups))
    return World(work, Platform(start_up, failing), seed)


def turned(group: Group, knobs: Mapping[str, float]) -> Group:
    """Give a group other rules."""
    times = {key: part * group.start_up for key, part in knobs.items() if key != "step_down"}
    return dataclasses.replace(group, **{**knobs, **times})  # type: ignore[arg-type]


def world(trace: str, start_up: float, seed: int, who: str) -> World:
    """Play a trace and give the world in which it was played."""
    made = prepared(trace, start_up, seed, who)
    made.run(decider(who, trace, start_up, seed))
    return made


def play(trace: str, start_up: float, seed: int, who: str) -> Outcome:
    """Play a trace and measure it."""
    return outcome(world(trace, start_up, seed, who), who)


def foreseen(trace: str, start_up: float, seed: int) -> tuple[Known, Outcome]:
    """Give what the clairvoyant would do with a trace, also as an outcome."""
    found = known(TRACES[trace](seed, start_up), start_up)
    spans = [span for members in found.members.values() for span in members]
    numbers = {
        "starts": float(len(spans)),
        "mean_latency": sum(found.latencies) / len(found.latencies),
        "paid_seconds": sum(end - begin for begin, end in spans),
    }
    latency = percentile(found.latencies, 0.95)
    return found, Outcome(
        *(trace, "clairvoyant", start_up, seed, found.makespan, latency, found.cost, numbers)
    )
