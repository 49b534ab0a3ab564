"""Members of a real cluster that start when they are told to: worker processes kept warm.

A worker process has imported Dask before a trace begins, so that a busy machine does not blur it:
a member that is asked for waits for the trace's start-up time, and then registers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from perennial.observation import Member, Observation


class Warm:
    """A worker process that has imported Dask and waits for a scheduler's address."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaler.warm"],
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
    start_up : float
        Seconds from asking for a member until it begins.
    """

    chooses: ClassVar[bool] = True

    def __init__(self, address: str, supply: list[Warm], start_up: float) -> None:
        self.address, self.supply, self.start_up = address, supply, start_up
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
        timer = threading.Timer(self.start_up, self._begin, [name])
        self.pieces[name] = _Piece(warm, timer)
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


if __name__ == "__main__":
    asyncio.run(worker())
