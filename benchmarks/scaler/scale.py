"""10,000 workers in 20 groups for a virtual day: how long a decision takes, and the whole day."""

from __future__ import annotations

import gc
import json
import math
import pickle
import random
import subprocess
import sys
import time
from typing import Any

from benchmarks.scaler.deciders import Ours
from benchmarks.scaler.fleet import Platform
from benchmarks.scaler.tasks import Prefix, Request, Task
from benchmarks.scaler.world import Trace, World
from perennial.scaler.values import Group, Rules, Signature

GROUPS, MEMBERS, START_UP, INTERVAL = 20, 500, 120.0, 30.0
#: Goals: seconds for the day, and milliseconds for the decisions of a tick.
GOAL_DAY, GOAL_TICK = 60.0, 20.0
#: Of so many ticks one is decided again in a process of its own, so many times.
EACH, AGAIN = 60, 20
#: Decides again what it reads, and prints the seconds of each decision.
ALONE = f"""
import json, pickle, sys, time
from perennial.scaler.policy import decide, detail_wanted
took = []
for rules, demand, standings, history, now in pickle.load(sys.stdin.buffer):
    for _ in range({AGAIN}):
        begun = time.process_time()
        detail_wanted(rules, standings, history, now)
        decide(rules, demand, standings, history, now)
        took.append(time.process_time() - begun)
print(json.dumps(took))
"""


def day(hours: float, seed: int = 0) -> Trace:
    """Make requests of 50 tasks of about half an hour, for each group; few at night."""
    chance, requests, groups = random.Random(seed), [], []
    length = hours * 3600
    for i in range(GROUPS):
        name = f"group{i}"
        needs = Signature(((f"R{i}", 1.0),))
        prefix = Prefix(f"work{i}")
        groups.append(
            Group(name, max=MEMBERS, start_up=START_UP, resources={f"R{i}": 1.0}, cost=1.0 + i)
        )
        peak = MEMBERS / (50 * 1800)  # requests a second that keep all members busy
        now = chance.expovariate(peak)
        while now < length:
            part = 0.02 + 1.03 * max(0.0, math.sin(math.pi * now / length)) ** 2
            if chance.random() < part:
                tasks = [Task(prefix, chance.uniform(900, 2700), needs) for _ in range(50)]
                requests.append(Request(now, tasks))
            now += chance.expovariate(peak)
    requests.sort(key=lambda request: request.time)
    return Trace("scale", Rules(tuple(groups)), requests, sample=60.0, limit=length)


def main(quick: bool = False) -> dict[str, float]:
    """Play the day, print the times, and give them."""
    from perennial.scaler.policy import decide, detail_wanted

    hours = 2.0 if quick else 24.0
    trace = day(hours)
    inputs: list[Any] = []

    def kept(*given: Any) -> Any:
        if len(ours.seconds) % EACH == 0:
            inputs.append(given)
        return decide(*given)

    ours = Ours(kept, detail_wanted, INTERVAL)
    world = World(trace, Platform(START_UP), seed=0, steal=5.0)
    # A full collection within a decision would walk the simulator's own objects, which are many.
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], 10**6)
    begun, used = time.perf_counter(), time.process_time()
    try:
        world.run(ours)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
    wall, used = time.perf_counter() - begun, time.process_time() - used
    there = [sum(s.there for s in at) for at in zip(*world.samples.values(), strict=True)]
    took, alone = sorted(ours.seconds), _alone(inputs)
    found = {
        "hours": hours,
        "wall": wall,
        "processor": used,
        "tasks": world.model.ended,
        "ticks": len(took),
        "workers": max(there),
        "mean_workers": sum(there) / len(there),
        "median_ms": 1e3 * took[len(took) // 2],
        "p99_ms": 1e3 * took[int(0.99 * len(took))],
        "deciding": sum(took),
        "alone_ms": 1e3 * alone[len(alone) // 2],
        "alone_p99_ms": 1e3 * alone[int(0.99 * len(alone))],
        "alone_worst_ms": 1e3 * alone[-1],
    }
    print(table(found), flush=True)
    return found


def _alone(inputs: list[Any]) -> list[float]:
    """Decide again in a process of its own, as the service does; give the seconds in order.

    Within the simulator a decision pays for its neighbours: the collector walks what they make.
    """
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        input=pickle.dumps(inputs),
        stdout=subprocess.PIPE,
        check=True,
    )
    return sorted(json.loads(done.stdout))


def table(found: dict[str, float]) -> str:
    """Write what was measured, beside the goals."""
    goals = {"wall": GOAL_DAY * found["hours"] / 24, "p99_ms": GOAL_TICK}
    goals |= dict.fromkeys(("alone_p99_ms", "alone_worst_ms"), GOAL_TICK)
    rows = {
        "wall": "seconds for the whole",
        "processor": "seconds of a processor for the whole",
        "deciding": "of which for decisions",
        "median_ms": "milliseconds for the decisions of a tick, in the median",
        "p99_ms": "the same, 99 %",
        "alone_ms": "milliseconds, decided again in a process of its own, in the median",
        "alone_p99_ms": "the same, 99 %",
        "alone_worst_ms": "the same, at most",
    }
    lines = [
        "## Scale (--scale)",
        "",
        f"{found['hours']:g} h of {GROUPS} groups, a tick each {INTERVAL:g} s: {found['ticks']:,} "
        f"ticks, {found['tasks']:,} tasks, at most {found['workers']:,} workers, "
        f"{found['mean_workers']:,.0f} in the mean.",
        "",
        "| what | measured | goal | |",
        "|---|---|---|---|",
    ]
    for key, what in rows.items():
        goal = goals.get(key)
        said = "" if goal is None else "met" if found[key] <= goal else "**missed**"
        wanted = "" if goal is None else f"{goal:g}"
        lines.append(f"| {what} | {found[key]:.1f} | {wanted} | {said} |")
    return "\n".join([*lines, ""])
