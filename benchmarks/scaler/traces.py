"""The work of the benchmark. Each call gives the same trace for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from benchmarks.scaler.tasks import ANY, Prefix, Request, Task
from benchmarks.scaler.world import Trace
from perennial.scaler.values import Group, Rules, Signature

GPU = Signature((("GPU", 1.0),))
TPU = Signature((("TPU", 1.0),))
GIB = 2**30

Maker = Callable[[int, float], Trace]


def cpu(start_up: float, most: int = 8, **more: object) -> Group:
    """Describe a group of plain workers."""
    return Group("cpu", max=most, start_up=start_up, **more)  # type: ignore[arg-type]


def batch(time: float, prefix: Prefix, n: int, seconds: float) -> Request:
    """Make a request of equal tasks."""
    return Request(time, [Task(prefix, seconds) for _ in range(n)])


def burst(seed: int, start_up: float) -> Trace:
    """200 tasks of 0.5 s, 20 s of nothing, and again."""
    prefix = Prefix("work")
    first, second = batch(0, prefix, 200, 0.5), batch(20, prefix, 200, 0.5)
    return Trace("burst", Rules((cpu(start_up),)), rounds=[first, second], sample=0.25)


def ramp(seed: int, start_up: float) -> Trace:
    """Tasks of 1 s that come at random, from 1 to 20 in a second within ten minutes."""
    chance, prefix = random.Random(seed), Prefix("work")
    requests, time = [], 0.0
    while time < 600:
        requests.append(batch(time, prefix, 1, 1.0))
        time += chance.expovariate(1 + 19 * time / 600)
    return Trace("ramp", Rules((cpu(start_up, 30),)), requests)


def diurnal(seed: int, start_up: float) -> Trace:
    """A day: requests of 4 tasks of 45 s at random times, 240 an hour at noon, none at night."""
    chance, prefix = random.Random(seed), Prefix("work")
    requests, time = [], 0.0
    while time < 86_400:
        time += chance.expovariate(240 / 3600)
        if chance.random() < math.sin(math.tau * (time / 86_400 - 0.25)):
            requests.append(batch(time, prefix, 4, 45.0))
    begin = requests[0].time
    for request in requests:
        request.time -= begin
    return Trace("diurnal", Rules((cpu(start_up, 20),)), requests, sample=5.0, limit=90_000)


def long_tail(seed: int, start_up: float) -> Trace:
    """100 tasks of 0.5 s and one of 20 s, in the middle of them."""
    prefix = Prefix("work")
    request = batch(0, prefix, 100, 0.5)
    request.tasks.insert(random.Random(seed).randrange(100), Task(prefix, 20.0))
    return Trace("long tail", Rules((cpu(start_up),)), [request], sample=0.25)


def memory_bound(seed: int, start_up: float) -> Trace:
    """40 results of 1 GB, made in 2 s each and held; then they are read five by five."""
    make, read, last = Prefix("make"), Prefix("read"), Prefix("last")
    made = [Task(make, 2.0, nbytes=10**9) for _ in range(40)]
    parts = [Task(read, 2.0, nbytes=10**7, inputs=tuple(made[i : i + 5])) for i in range(0, 40, 5)]
    end = Task(last, 1.0, inputs=tuple(parts))
    group = cpu(start_up, 16, memory=4 * GIB)
    return Trace("memory", Rules((group,)), [Request(0, [*made, *parts, end])])


def mix(seed: int, start_up: float) -> Trace:
    """400 tasks of 1 s, 60 of 5 s that need a GPU, and one that needs what nobody has."""
    plain, gpu, tpu = Prefix("plain"), Prefix("train"), Prefix("infer")
    tasks = [Task(plain, 1.0) for _ in range(400)] + [Task(gpu, 5.0, GPU) for _ in range(60)]
    never = Request(0, [Task(tpu, 5.0, TPU)], feasible=False)
    groups = (
        cpu(start_up),
        Group("gpu", max=4, start_up=start_up, resources={"GPU": 1.0}, cost=4.0),
    )
    return Trace("mix", Rules(groups), [never, Request(0, tasks)], limit=3600)


def interactive(seed: int, start_up: float) -> Trace:
    """Somebody who submits 16 tasks of 0.5 s, looks at the result for 6 s, and submits again."""
    prefix = Prefix("work")
    rounds = [batch(6.0 if i else 0.0, prefix, 16, 0.5) for i in range(20)]
    return Trace("interactive", Rules((cpu(start_up, 4),)), rounds=rounds, sample=0.25)


TRACES: dict[str, Maker] = {
    "burst": burst,
    "ramp": ramp,
    "diurnal": diurnal,
    "long tail": long_tail,
    "memory": memory_bound,
    "mix": mix,
    "interactive": interactive,
}

__all__ = ["ANY", "GPU", "TPU", "TRACES", "Maker", "batch", "cpu"]
