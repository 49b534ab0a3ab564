"""Three traces on a real cluster, beside the simulator: how far may it be believed?

The scheduler is a real one with our preload, each worker is a real process of its own, the scaler
is the real loop, and tasks sleep. So that a busy machine does not blur it, worker processes have
imported Dask before a trace begins: a member that is asked for waits for the trace's start-up
time, and then registers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.scaler.fleet import Platform
from benchmarks.scaler.run import decider
from benchmarks.scaler.tasks import Prefix, Request, Task
from benchmarks.scaler.traces import batch, cpu
from benchmarks.scaler.world import Trace, World
from perennial.scaler.values import Member, Observation, Rules

#: Seconds until a member has registered, and seconds between two ticks of the loop.
START_UP, INTERVAL = 6.0, 1.0


def traces() -> list[Trace]:
    """Make three traces of tasks that are long enough for a busy machine."""
    rules = Rules((cpu(START_UP, 6),))
    work = Prefix("work")
    tail = Request(0, [Task(work, 20.0 if i == 30 else 1.0) for i in range(60)])
    return [
        Trace("burst", rules, rounds=[batch(0, work, 60, 1.0), batch(15, work, 60, 1.0)]),
        Trace("long tail", rules, rounds=[tail]),
        Trace("interactive", rules, rounds=[batch(6.0 * (i > 0), work, 8, 1.0) for i in range(6)]),
    ]


class Warm:
    """A worker process that has imported Dask and waits for a scheduler's address."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaler.reality"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ready(self) -> None:
        """Wait until it has imported everything."""
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n", "a worker has not started"

    def say(self, **what: Any) -> None:
        """Tell it something."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """End it."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class _Piece:
    warm: Warm
    asked: float
    timer: threading.Timer
    joined: float | None = None


class WarmFleet:
    """Members from a supply of warm processes; each begins after the start-up time.

    Parameters
    ----------
    address : str
        The scheduler's.
    supply : list of Warm
        Processes that wait.
    """

    chooses: ClassVar[bool] = True

    def __init__(self, address: str, supply: list[Warm]) -> None:
        self.address, self.supply = address, supply
        self.pieces: dict[str, _Piece] = {}
        self.ended: list[tuple[float, float]] = []  # when members joined and were stopped
        self.starts = 0
        self._lock = threading.Lock()

    def observe(self) -> Observation:
        """Look."""
        with self._lock:
            members = tuple(
                Member(name, name, "running" if piece.joined else "starting")
                for name, piece in self.pieces.items()
            )
        return Observation(len(members), members, all(m.state == "running" for m in members))

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members."""
        with self._lock:
            for member in leaving:
                if member.id in self.pieces:
                    self._stop(member.id)
            for name in [name for name, piece in self.pieces.items() if not piece.joined][::-1]:
                if len(self.pieces) > to:
                    self._stop(name)
            while len(self.pieces) < to and self.supply:
                self._start()
            return len(self.pieces)

    def _start(self) -> None:
        name, warm = f"cpu-{self.starts}", self.supply.pop(0)
        self.starts += 1
        timer = threading.Timer(START_UP, self._begin, [name])
        self.pieces[name] = _Piece(warm, time.monotonic(), timer)
        timer.start()

    def _begin(self, name: str) -> None:
        with self._lock:
            piece = self.pieces.get(name)
            if piece:
                piece.warm.say(start=self.address, name=name)
                piece.joined = time.monotonic()

    def _stop(self, name: str) -> None:
        piece = self.pieces.pop(name)
        piece.timer.cancel()
        if piece.joined:
            piece.warm.say(stop=True)
            self.ended.append((piece.joined, time.monotonic()))
        self.supply.append(piece.warm)

    def served(self, until: float) -> float:
        """Seconds that members have been there."""
        with self._lock:
            spans = [(p.joined, until) for p in self.pieces.values() if p.joined]
            spans += [(begin, min(end, until)) for begin, end in self.ended]
        return sum(max(0.0, end - begin) for begin, end in spans)


async def worker() -> None:
    """Be a warm process: a line says when to begin and when to stop."""
    import dask.config
    from distributed import Worker

    dask.config.set({"perennial.group": "cpu", "distributed.worker.memory.terminate": False})
    current: Worker | None = None
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        said = json.loads(line)
        if "start" in said:
            current = await Worker(
                said["start"],
                name=said["name"],
                nthreads=1,
                memory_limit="1 GiB",
                host="127.0.0.1",
                preload=["perennial.preloads.member"],
            )
        elif current is not None:
            await current.close()
            current = None
    if current is not None:
        await current.close()


@contextlib.contextmanager
def scheduler(home: Path) -> Iterator[str]:
    """Run a real scheduler; give its address."""
    file = home / "scheduler.json"
    flags = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    flags += ["--dashboard-address", "127.0.0.1:0", "--preload", "perennial.preloads.demand"]
    command = [sys.executable, "-m", "dask", "scheduler", *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 60
            while not file.exists():
                assert time.monotonic() < end, "no scheduler"
                time.sleep(0.1)
            yield json.loads(file.read_text())["address"]
        finally:
            process.terminate()


@contextlib.contextmanager
def scaler(address: str, trace: Trace, fleet: WarmFleet, home: Path) -> Iterator[None]:
    """Run the real loop over a fleet, in a thread."""
    from perennial.fleets import fleet as fleets
    from perennial.scaler.service import assembled
    from perennial.scaler.settings import GroupSettings, Settings

    fleets.FLEETS["warm"] = f"{__name__}.opened"
    _OPEN.append(fleet)
    state = home / trace.name.replace(" ", "-")
    state.mkdir(mode=0o700)
    groups = tuple(GroupSettings(group, {}) for group in trace.rules.groups)
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


def really(trace: Trace, address: str, supply: list[Warm], home: Path) -> dict[str, float]:
    """Play a trace on the real cluster."""
    from distributed import Client

    fleet = WarmFleet(address, supply)
    latencies = []
    with Client(address) as client, scaler(address, trace, fleet, home):
        begun = time.monotonic()
        for request in trace.rounds:
            time.sleep(request.time)
            now = time.monotonic()
            seconds = [task.seconds for task in request.tasks]
            name = f"{trace.name.replace(' ', '')}"
            client.gather(client.map(time.sleep, seconds, key=name, pure=False))
            latencies.append(time.monotonic() - now)
        ended = time.monotonic()
        found = {
            "makespan": ended - begun,
            "latency": sum(latencies) / len(latencies),
            "worker_seconds": fleet.served(ended),
            "starts": float(fleet.starts),
        }
    fleet.resize(0, fleet.observe().members)
    return found


def simulated(trace: Trace, seed: int) -> dict[str, float]:
    """Play a trace in virtual time, until its end."""
    world = World(trace, Platform(START_UP + 0.1, failing=0.0), seed)
    world.run(decider("ours 1 s", trace.name, START_UP, seed))
    assert world.end is not None
    waits = [(request.ended or 0) - request.begun for request in trace.rounds]
    return {
        "makespan": world.end,
        "latency": sum(waits) / len(waits),
        "worker_seconds": world.served_at_end,
        "starts": float(world.fleets["cpu"].starts),
    }


def main(quick: bool = False) -> list[dict[str, Any]]:
    """Play the traces in both worlds, print them side by side, and give them."""
    supply = [Warm() for _ in range(6)]
    rows = []
    try:
        for warm in supply:
            warm.ready()
        with (
            tempfile.TemporaryDirectory(prefix="reality-") as folder,
            scheduler(Path(folder)) as address,
        ):
            for i, trace in enumerate(traces()[: 1 if quick else 3]):
                real = really(trace, address, supply, Path(folder))
                runs = [simulated(traces()[i], seed) for seed in range(5)]
                mean = {key: sum(run[key] for run in runs) / len(runs) for key in real}
                rows.append({"trace": trace.name, "real": real, "simulated": mean})
                print(row(rows[-1]), flush=True)
    finally:
        for warm in supply:
            warm.end()
    return rows


def row(found: dict[str, Any]) -> str:
    """Write a row of a table."""
    cells = [found["trace"]]
    for key, real in found["real"].items():
        virtual = found["simulated"][key]
        cells.append(f"{real:.1f} and {virtual:.1f} ({virtual / real - 1:+.0%})")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    asyncio.run(worker())
