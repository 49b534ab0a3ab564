"""Traces on a real cluster, beside the simulator: how far may it be believed?

The scheduler is a real one with our preload, each worker is a real process of its own, the scaler
is the real loop, and tasks sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks.scaler.deciders import DRAIN, INTERVAL, Ours
from benchmarks.scaler.fleet import Platform
from benchmarks.scaler.run import decider
from benchmarks.scaler.tasks import Prefix, Request, Task
from benchmarks.scaler.traces import batch, cpu
from benchmarks.scaler.warm import Warm, WarmFleet
from benchmarks.scaler.world import Trace, World
from perennial.scaler.values import Rules

#: Real runs of each trace, and simulated ones, of which the means are compared.
TIMES, SEEDS = 3, 10
#: Seconds that a worker takes to register once it has begun, and seconds from the look that sees
#: the client to the first work: between these, drawn for each simulated run.
REGISTERING, CONNECTED = (0.02, 0.1), (0.05, 0.3)
#: What has to agree, and how well.
ASSERTED, TOLERANCE = ("makespan", "worker_seconds"), 0.10
#: What is shown.
SHOWN = ("makespan", "latency", "worker_seconds", "starts")

#: What is measured of one run.
Run = dict[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """A trace that is played in both worlds.

    Parameters
    ----------
    make : callable
        Makes the trace.
    start_up : float
        Seconds until a member has registered.
    edge : str
        Why the two may differ; empty when they must not.
    """

    make: Callable[[float], Trace]
    start_up: float = 6.0
    edge: str = ""

    def trace(self) -> Trace:
        """Make the trace."""
        return self.make(self.start_up)


def burst(start_up: float) -> Trace:
    """60 tasks of 1 s, 15 s of nothing, and again."""
    work = Prefix("work")
    rounds = [batch(0, work, 60, 1.0), batch(15, work, 60, 1.0)]
    return Trace("burst", Rules((cpu(start_up, 6),)), rounds=rounds)


def long_tail(start_up: float) -> Trace:
    """59 tasks of 1 s and one of 20 s, in the middle of them."""
    work = Prefix("work")
    tail = Request(0, [Task(work, 20.0 if i == 30 else 1.0) for i in range(60)])
    return Trace("long tail", Rules((cpu(start_up, 6),)), rounds=[tail])


def interactive(start_up: float) -> Trace:
    """24 tasks of 0.75 s, 8 s to think, 6 times."""
    work = Prefix("work")
    rounds = [batch(8.0 * (i > 0), work, 24, 0.75) for i in range(6)]
    return Trace("interactive", Rules((cpu(start_up, 6),)), rounds=rounds)


def on_the_edge(start_up: float) -> Trace:
    """8 tasks of 1 s, 6 times; they come back just when the last idle member leaves."""
    work = Prefix("work")
    rounds = [batch(start_up * (i > 0), work, 8, 1.0) for i in range(6)]
    return Trace("interactive, on the edge", Rules((cpu(start_up, 6),)), rounds=rounds)


def small(start_up: float) -> Trace:
    """9 tasks of 1 s, half a second of nothing, and again."""
    work = Prefix("work")
    rounds = [batch(0, work, 9, 1.0), batch(0.5, work, 9, 1.0)]
    return Trace("small", Rules((cpu(start_up, 3),)), rounds=rounds)


CASES = (
    Case(burst),
    Case(long_tail),
    Case(interactive),
    Case(on_the_edge, edge="tenths of a second decide who is still there"),
)
#: The small run of CI.
QUICK = (Case(small, start_up=2.0),)


class Drained(logging.Handler):
    """Listens to the scaler: how long did drains take?"""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of what it says of a member that leaves."""
        if "leaves, drained" in str(record.msg) and isinstance(record.args, tuple):
            self.seconds.append(float(str(record.args[1])))


@contextlib.contextmanager
def listening() -> Iterator[Drained]:
    """Hear what the scaler logs."""
    logger, heard = logging.getLogger("perennial.scaler"), Drained()
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(heard)
    try:
        yield heard
    finally:
        logger.removeHandler(heard)
        logger.level, logger.propagate = before


@contextlib.contextmanager
def scheduler(home: Path) -> Iterator[str]:
    """Run a real scheduler; give its address."""
    file = home / "scheduler.json"
    flags = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    flags += ["--dashboard-address", "127.0.0.1:0", "--preload", "perennial.preloads.demand"]
    command = [sys.executable, "-m", "dask", "scheduler", *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield _address(file)
        finally:
            process.terminate()


def _address(file: Path) -> str:
    """Wait until a scheduler has written where it is."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)
    raise TimeoutError("no scheduler")


@contextlib.contextmanager
def scaler(address: str, trace: Trace, fleet: WarmFleet, home: Path) -> Iterator[None]:
    """Run the real loop over a fleet, in a thread."""
    from perennial.fleet import Handle
    from perennial.registry import FLEETS
    from perennial.scaler.service import assembled
    from perennial.scaler.settings import GroupSettings, Settings

    FLEETS["warm"] = f"{__name__}.opened"
    _OPEN.append(fleet)
    state = Path(tempfile.mkdtemp(dir=home))
    groups = tuple(GroupSettings(group, Handle()) for group in trace.rules.groups)
    told = Settings("reality", "warm", address, state, groups, interval=INTERVAL)
    begun, ended = threading.Event(), threading.Event()

    async def run() -> None:
        loop, stop = assembled(told), asyncio.Event()
        task = asyncio.create_task(loop.run(stop))
        while loop.health.ended is None:
            await asyncio.sleep(0.05)
        begun.set()
        await asyncio.get_running_loop().run_in_executor(None, ended.wait)
        stop.set()
        await task
        await loop.source.close()
        await loop.actor.drains.workers.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert begun.wait(60), "the loop does not tick"
        yield
    finally:
        ended.set()
        thread.join(60)


_OPEN: list[WarmFleet] = []


def opened() -> WarmFleet:
    """Give the fleet of the trace that is played; called by the loop."""
    return _OPEN[-1]


def really(case: Case, number: int, address: str, supply: list[Warm], home: Path) -> Run:
    """Play a trace on the real cluster."""
    from distributed import Client

    trace = case.trace()
    fleet = WarmFleet(address, supply, case.start_up)
    # A name of its own, in letters alone: Dask remembers how long tasks of a name take.
    name = "".join(filter(str.isalpha, trace.name)) + chr(ord("a") + number)
    latencies = []
    with Client(address) as client, scaler(address, trace, fleet, home):
        begun = time.monotonic()
        for request in trace.rounds:
            time.sleep(request.time)
            now = time.monotonic()
            seconds = [task.seconds for task in request.tasks]
            client.gather(client.map(time.sleep, seconds, key=name, pure=False))
            latencies.append(time.monotonic() - now)
        ended = time.monotonic()
        found = {
            "makespan": ended - begun,
            "latency": fmean(latencies),
            "worker_seconds": fleet.served(ended),
            "starts": float(fleet.starts),
        }
    fleet.resize(0, fleet.observe().members)
    return found


def simulated(case: Case, seed: int) -> Run:
    """Play a trace in virtual time, until its end."""
    trace, chance = case.trace(), random.Random(seed)
    connected = chance.uniform(*CONNECTED)
    trace.rounds[0].time += connected
    start_up = case.start_up + chance.uniform(*REGISTERING)
    world = World(trace, Platform(start_up, failing=0.0), seed)
    ours = decider("ours", trace.name, case.start_up, seed)
    assert isinstance(ours, Ours)
    ours.first = 0.0  # the client is seen before there is work
    world.run(ours)
    assert world.end is not None
    return {
        "makespan": world.end - connected,
        "latency": fmean((request.ended or 0) - request.begun for request in trace.rounds),
        "worker_seconds": world.served_at_end,
        "starts": float(world.fleets["cpu"].starts),
    }


@dataclass(frozen=True, slots=True)
class Compared:
    """A trace in both worlds, played some times in each."""

    case: Case
    real: Sequence[Run]
    virtual: Sequence[Run]

    def off(self, key: str) -> float:
        """Say by which part the simulator is off, in the mean."""
        return fmean(run[key] for run in self.virtual) / fmean(run[key] for run in self.real) - 1

    def within(self, tolerance: float = TOLERANCE) -> bool:
        """Whether what is asserted agrees."""
        return all(abs(self.off(key)) <= tolerance for key in ASSERTED)

    def rows(self) -> str:
        """Write three rows of a table: means with their ranges, and the difference."""
        name = self.case.trace().name
        said = "met" if self.within() else "**missed**"
        lines = [
            [name, "real", *(_mean([run[key] for run in self.real]) for key in SHOWN), ""],
            ["", "simulated", *(_mean([run[key] for run in self.virtual]) for key in SHOWN), ""],
            ["", "difference", *(f"{self.off(key):+.1%}" for key in SHOWN), self.case.edge or said],
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean(values: Sequence[float]) -> str:
    spread = f"{min(values):.1f} to {max(values):.1f}"
    same = max(values) - min(values) < 0.1
    return f"{fmean(values):.1f}" + ("" if same else f" ({spread})")


def compared(cases: Sequence[Case], times: int, seeds: int = SEEDS) -> Iterator[Compared]:
    """Play traces in both worlds."""
    most = max(group.max for case in cases for group in case.trace().rules.groups)
    supply = [Warm() for _ in range(most)]
    try:
        for warm in supply:
            warm.ready()
        with (
            tempfile.TemporaryDirectory(prefix="reality-") as folder,
            scheduler(Path(folder)) as address,
        ):
            for case in cases:
                real = []
                for i in range(times):
                    name = case.trace().name
                    print(f"{name}, really, {i + 1} of {times}", file=sys.stderr, flush=True)
                    real.append(really(case, i, address, supply, Path(folder)))
                    print(f"  {json.dumps(real[-1])}", file=sys.stderr, flush=True)
                yield Compared(case, real, [simulated(case, seed) for seed in range(seeds)])
    finally:
        for warm in supply:
            warm.end()


def main(quick: bool = False) -> bool:
    """Play the traces, print them side by side, and say whether the simulator may be believed."""
    print("## Real and simulated (--reality)\n")
    print("| trace | | makespan, s | mean latency, s | worker-seconds | starts | within 10 % |")
    print("|---|---|---|---|---|---|---|")
    good = []
    with listening() as heard:
        for found in compared(QUICK if quick else CASES, 1 if quick else TIMES):
            print(found.rows(), flush=True)
            good.append(bool(found.case.edge) or found.within())
    if heard.seconds:
        print(
            f"\n{len(heard.seconds)} real drains: {median(heard.seconds):.2f} s in the median, "
            f"{max(heard.seconds):.2f} s at most; the simulator takes {DRAIN:g} s."
        )
    return all(good)
