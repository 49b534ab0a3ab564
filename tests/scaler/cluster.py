"""A real scheduler, real workers on a platform of the test's own, and a real scaler process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
from dask import config, delayed
from distributed import Client, Future, secede
from distributed.core import rpc

from tests.preloads.conftest import Lab, made, until
from tests.preloads.test_certificates import Authority
from tests.scaler.platform import Platform

ROOT = Path(__file__).parents[2]


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


class Cluster:
    """All of it, and how the test speaks to it."""

    def __init__(self, lab: Lab, *groups: dict[str, Any], tls: bool = False, **settings: Any):
        self.lab = lab
        self.authority: Authority | None = None
        if tls:
            self.authority = Authority(lab.folder / "tls")
            for role in ("scheduler", "worker", "client"):
                self.authority.write(role)
            lab.protocol = "tls"
            lab.environment |= self.authority.environment()
            paths = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
            settings["tls"] = {key: str(lab.folder / "tls" / name) for key, name in paths.items()}
        lab.scheduler("--preload", "perennial.preloads.demand")
        self.platforms: dict[str, Platform] = {}
        written = []
        for group in groups:
            name = group["name"]
            most = group.pop("most", 8)
            arguments = group.pop("arguments", ())
            self.platforms[name] = Platform(lab, name, *arguments, most=most)
            written.append({**group, "fleet": {"port": self.platforms[name].port}})
        self.state = lab.folder / "state"
        config = {
            **{"cluster": "test", "platform": "test", "scheduler": lab.address, "tls": None},
            **{"interval": 0.5, "state": str(self.state), "groups": written, **settings},
        }
        self.config = lab.folder / "scaler.json"
        self.config.write_text(json.dumps(config))
        self.scaler: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.lab.folder / "scaler.log").open("ab") as log:
            self.scaler = subprocess.Popen(
                [sys.executable, "-m", "tests.scaler.platform", str(self.config), *arguments],
                cwd=ROOT,
                env=self.lab.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.scaler

    def kill(self) -> None:
        """SIGKILL, and another one at once."""
        assert self.scaler is not None
        self.scaler.send_signal(signal.SIGKILL)
        self.scaler.wait()
        self.kills += 1
        self.start()

    def stop(self) -> int:
        assert self.scaler is not None
        self.scaler.terminate()
        return self.scaler.wait(30)

    def wish(self, **wish: Any) -> None:
        async def ask() -> None:
            secure = (
                self.authority.security().get_connection_args("client") if self.authority else {}
            )
            scheduler = rpc(self.lab.address, connection_args=secure)
            try:
                await scheduler.perennial_wish(wish=wish)
            finally:
                await scheduler.close_rpc()

        asyncio.run(ask())

    def pin(self, group: str, size: int) -> None:
        self.wish(kind="pin", group=group, size=size, seconds=None)

    def records(self) -> list[dict[str, Any]]:
        lines = (self.state / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def log(self) -> str:
        return self.lab.log("scaler")

    def close(self) -> None:
        if self.scaler is not None and self.scaler.poll() is None:
            self.scaler.kill()
            self.scaler.wait()
        for platform in self.platforms.values():
            platform.close()


@contextmanager
def standing(*groups: dict[str, Any], **settings: Any) -> Iterator[Cluster]:
    with made() as lab:
        cluster = Cluster(lab, *groups, **settings)
        try:
            yield cluster
        finally:
            cluster.close()


def names(client: Client) -> dict[str, str]:
    """Address of each running worker, by name."""
    # Not `scheduler_info`: the client replaces its answer by one without workers now and then.
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return {w["name"]: at for at, w in workers.items() if w["status"] == "running"}


class Burden:
    """Work of many kinds, and data, that must survive whatever the scaler does."""

    def __init__(self, lab: Lab, client: Client, seed: int = 7) -> None:
        self.lab, self.client = lab, client
        self.folder = lab.counted()
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
        for value, future in self.scattered:
            try:
                lost += future.result(timeout=30) != value
            except Exception:
                lost += 1
        for expected, future in self.shuffles:
            lost += future.result(timeout=60) != expected
        results = self.client.gather(self.futures, errors="skip")
        lost += len(self.futures) - len(results)
        runs = self.lab.runs()
        return lost, sum(runs[future.key] != 1 for future in self.futures)


__all__ = ["Burden", "Cluster", "names", "standing", "until"]
