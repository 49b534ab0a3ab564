"""10,000 workers in 20 groups for a virtual day: how long a decision takes, and the whole day."""

from __future__ import annotations

import gc
import math
import random
import time

from benchmarks.scaler.deciders import Ours
from benchmarks.scaler.fleet import Platform
from benchmarks.scaler.tasks import Prefix, Request, Task
from benchmarks.scaler.world import Trace, World
from perennial.scaler.values import Group, Rules, Signature

GROUPS, MEMBERS, START_UP, INTERVAL = 20, 500, 120.0, 30.0


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
    gc.freeze()  # the trace is large, and the collector would walk it within decisions
    ours = Ours(decide, detail_wanted, INTERVAL)
    world = World(trace, Platform(START_UP), seed=0, steal=5.0)
    begun, used = time.perf_counter(), time.process_time()
    world.run(ours)
    wall, used = time.perf_counter() - begun, time.process_time() - used
    there = [sum(s.there for s in at) for at in zip(*world.samples.values(), strict=True)]
    took = sorted(ours.seconds)
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
        "worst_ms": 1e3 * took[-1],
        "deciding": sum(took),
    }
    print(
        f"{hours:g} h of {GROUPS} groups, a tick each {INTERVAL:g} s, in {wall:.1f} s "
        f"({used:.1f} s of a processor): "
        f"{found['tasks']:,.0f} tasks, at most {found['workers']:,.0f} workers, "
        f"{found['mean_workers']:,.0f} in the mean; {len(took):,} decisions in "
        f"{found['deciding']:.1f} s: median {found['median_ms']:.2f} ms, "
        f"99 % within {found['p99_ms']:.2f} ms, the longest {found['worst_ms']:.2f} ms"
    )
    return found
