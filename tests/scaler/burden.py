"""Work and data that must survive whatever happens to workers, and how often each task has run."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import dask.array as da
from dask import config, delayed
from distributed import Client, Future, secede

from tests.dask_processes import workers_of
from tests.preloads.conftest import times_run, until


def functions() -> tuple[Any, ...]:
    """What workers run; local functions travel with their code, for workers lack the tests."""

    def work(folder: str, key: str, seconds: float, *inputs: int) -> int:
        """Append a line to the task's own file, take its time, and add up."""
        with Path(folder, key).open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return sum(inputs) + 1

    def seceded(folder: str, key: str, seconds: float, *inputs: int) -> int:
        secede()
        return work(folder, key, seconds, *inputs)

    def block(seconds: float, value: float) -> Any:
        """Rows of an array, after some time."""
        import numpy as np

        time.sleep(seconds)
        return np.full((10, 40), value)

    def active(dask_scheduler: Any) -> int:
        """Shuffles that go on."""
        return len(dask_scheduler.plugins["shuffle"].active_shuffles)

    return work, seceded, block, active


work, seceded, block, active = functions()


def names(client: Client) -> dict[str, str]:
    """Address of each running worker, by name."""
    workers = workers_of(client)
    return {w["name"]: at for at, w in workers.items() if w["status"] == "running"}


class Burden:
    """Work of many kinds, and data, that must survive whatever the scaler does."""

    def __init__(self, client: Client, folder: str, seed: int = 7) -> None:
        self.client, self.folder = client, folder
        self.chance = random.Random(seed)
        self.futures: list[Future] = []
        self.scattered: list[tuple[int, Future]] = []
        self.shuffles: list[tuple[float, Future]] = []

    def more(self, tasks: int) -> None:
        """Dependent tasks, short and long ones, some of which secede."""
        for _ in range(tasks):
            number = self.chance.choice((0, 0, 1, 2))
            inputs = self.chance.sample(self.futures[-40:], min(number, len(self.futures)))
            key = f"task-{len(self.futures)}"
            seconds = self.chance.choice((0.0, 0.1, 0.5, 2.0))
            function = seceded if self.chance.random() < 0.15 else work
            self.futures.append(
                self.client.submit(function, self.folder, key, seconds, *inputs, key=key)
            )

    def scatter(self) -> None:
        """One key on each running worker, which nobody can compute again."""
        for at in names(self.client).values():
            value = len(self.scattered)
            # A worker that is parked just now takes no data; Dask then waits for another one.
            try:
                future = self.client.scatter(value, workers=[at], hash=False)
            except KeyError:
                continue  # it has left since it was named; nothing was sent
            self.scattered.append((value, future))

    def name_workers(self) -> None:
        """Tasks that may run on one worker alone, behind a task that runs elsewhere."""
        addresses = list(names(self.client).values())
        for at in self.chance.sample(addresses, min(2, len(addresses))):
            first = len(self.futures)
            for seconds, more in ((0.5, {}), (0.1, {"workers": [at]})):
                key = f"task-{len(self.futures)}"
                inputs = self.futures[first:]
                self.futures.append(
                    self.client.submit(work, self.folder, key, seconds, *inputs, key=key, **more)
                )

    def shuffle(self) -> None:
        """A shuffle from worker to worker; without any one of them, Dask begins it anew."""
        rows = [
            da.from_delayed(delayed(block)(0.3, len(self.shuffles) + n), (10, 40), float)
            for n in range(8)
        ]
        with config.set({"array.rechunk.method": "p2p"}):
            whole = da.concatenate(rows).rechunk((80, 4))
        expected = 400 * sum(len(self.shuffles) + n for n in range(8))
        self.shuffles.append((expected, self.client.compute(whole.sum(axis=0).sum())))
        until(lambda: self.client.run_on_scheduler(active), "a shuffle goes on", 60)

    def check(self) -> tuple[int, int]:
        """How many keys are lost, how many tasks ran twice."""
        lost = 0
        everything = [*self.futures, *(future for _, future in (*self.scattered, *self.shuffles))]
        deadline = time.monotonic() + 300  # for all: of those that are lost there may be many
        while time.monotonic() < deadline and not all(future.done() for future in everything):
            time.sleep(0.1)
        for value, future in self.scattered:
            try:
                lost += future.result(timeout=1) != value
            except Exception:
                lost += 1
        for expected, future in self.shuffles:
            lost += future.result(timeout=60) != expected
        ended = [future for future in self.futures if future.done()]
        results = self.client.gather(ended, errors="skip")
        lost += len(self.futures) - len(results)
        runs = times_run(self.folder)
        return lost, sum(runs[future.key] != 1 for future in self.futures)
