"""A cluster on machines under one fault after another, with somebody's results on it.

Computed results are never lost, whatever happens to workers. A scattered value has no recipe:
it is lost when the only worker that has it is killed, and then alone. A drain moves it, and
Dask's connections outlive a network that is cut for less than 30 s.

The scheduler's death is not among the faults: every future of every client ends with it (see
test_faults).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.network import Network
from tests.labs.hosts.standing import MACHINES, Standing, show

SEED = 20
EVERY = 20.0
WAYS = ("kill", "restart", "reboot", "cut", "deploy", "scale")
#: Seconds for all workers to be back after a fault.
BACK = 120.0
#: Seconds that something small may take: a cut, a cautious deploy, and a busy machine.
OUTAGE = 60.0
#: What lets a worker drain first: nothing is computed again, and no scattered value is lost.
GENTLE = ("restart ", "reboot ", "up, ", "scale ")


@dataclass(frozen=True, slots=True)
class Row:
    """What a fault did.

    Parameters
    ----------
    fault : str
        What it was.
    seconds : float
        Until all workers were back.
    outage : float
        Longest time that a small task took.
    recomputed : int
        Results that were computed again.
    lost : int
        Computed results that were lost.
    gone, allowed : int
        Scattered values that were lost, and those that were on the killed worker alone.
    """

    fault: str
    seconds: float
    outage: float
    recomputed: int
    lost: int
    gone: int
    allowed: int


class Faults:
    """What is done to a cluster; each returns what it was.

    Parameters
    ----------
    cluster : Standing
        The cluster.
    chance : random.Random
        Decides.
    """

    def __init__(self, cluster: Standing, chance: random.Random) -> None:
        self.cluster = cluster
        self.network = cluster.network
        self.chance = chance
        self.size = len(cluster.workers())
        self.memories = ["544 MiB", "512 MiB"]

    def machine(self) -> str:
        """Choose a machine of workers."""
        return self.chance.choice(MACHINES[1:])

    def kill(self, name: str) -> str:
        """Kill a worker with no chance to drain."""
        machine, _, number = name.removeprefix("cpu-").rpartition("-")
        unit = f"dask-lab-cpu@{number}.service"
        self.network[machine].run("systemctl", "kill", "--signal=KILL", unit)
        return f"kill -9 {name}"

    def restart(self) -> str:
        """Restart a worker as an operator does."""
        name = self.chance.choice(self.cluster.workers())
        self.cluster.run("restart", name)
        return f"restart {name}"

    def reboot(self) -> str:
        """Reboot a machine; its workers drain."""
        machine = self.machine()
        self.network[machine].reboot()
        return f"reboot {machine}"

    def cut(self) -> str:
        """Cut a machine's network for a while."""
        machine, seconds = self.machine(), self.chance.uniform(5, 15)
        with self.network[machine].unreachable():
            time.sleep(seconds)
        return f"cut {machine} for {seconds:.0f} s"

    def deploy(self) -> str:
        """Deploy another memory limit: every worker restarts, one after another."""
        size = self.memories[0]
        self.memories.reverse()
        self.cluster.memory(size)
        self.cluster.up()
        return f"up, memory {size}"

    def scale(self) -> str:
        """Give the group another size."""
        before = self.size
        self.size = self.chance.choice([size for size in range(3, 7) if size != before])
        self.cluster.run("scale", f"cpu={self.size}")
        return f"scale {before} to {self.size}"


class User:
    """Somebody whose program holds results; see `tests.labs.hosts.keeper`."""

    def __init__(self, cluster: Standing) -> None:
        self._log = (cluster.operator.home / "keeper.log").open("w+")
        self.process = cluster.operator.popen(
            *(sys.executable, "-m", "tests.labs.hosts.keeper"),
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stderr=self._log,
        )

    def __enter__(self) -> dict[str, Any]:
        found: dict[str, Any] = self._answer()
        return found

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()

    def ask(self, *words: str) -> Any:
        """Ask the program something."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(self._log.read()[-4000:])
        return json.loads(line)


@pytest.fixture
def cluster(network: Network) -> Iterator[Standing]:
    if not network.all():
        network.machines(*MACHINES)
    made = Standing(network)
    made.place(*MACHINES, workers=2)
    made.up()
    yield made
    made.down()


def soak(cluster: Standing, duration: float, seed: int) -> list[Row]:
    """Do one thing after another to a cluster, each at least once.

    Each begins 20 s after the last, or when that is over on a busy machine.
    """
    chance = random.Random(seed)
    faults = Faults(cluster, chance)
    ways: list[str] = []
    rows: list[Row] = []
    user = User(cluster)
    with user as at_first:
        computed, end = at_first["computed"], time.monotonic() + duration
        while time.monotonic() < end or len(rows) < len(WAYS):
            begin = time.monotonic()
            if not ways:  # each comes once before any comes again
                ways = list(WAYS)
                chance.shuffle(ways)
            way, allowed = ways.pop(), 0
            if way == "kill":
                victim = user.ask("fullest")
                allowed = user.ask("holders", victim)
                what = faults.kill(victim)
            else:
                what = getattr(faults, way)()
            cluster.python(f"await_workers({faults.size}, {BACK})")
            seconds = time.monotonic() - begin
            found = user.ask("check")
            again, computed = found["computed"] - computed, found["computed"]
            counts = (again, found["lost"], found["gone"], allowed)
            rows.append(Row(what, seconds, found["longest"], *counts))
            print(rows[-1], found["states"], flush=True)
            time.sleep(max(0.0, min(begin + EVERY, end) - time.monotonic()))
    return rows


def report(rows: list[Row], duration: float) -> str:
    """Write down what happened, as a table."""
    lines = ["| fault | until whole | longest small task | recomputed | lost | scattered lost |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [
        f"| {row.fault} | {row.seconds:.1f} s | {row.outage:.1f} s | {row.recomputed} |"
        f" {row.lost} | {row.gone} of {row.allowed} allowed |"
        for row in rows
    ]
    total = [sum(getattr(row, name) for row in rows) for name in ("recomputed", "lost", "gone")]
    longest = max(row.outage for row in rows)
    lines.append(
        f"\n{len(rows)} faults in {duration:g} s: lost keys {total[1]}, recomputed {total[0]},"
        f" longest outage {longest:.1f} s, scattered values lost with their worker {total[2]}"
    )
    return "\n".join(lines) + "\n"


def judge(cluster: Standing, duration: float, seed: int) -> None:
    rows = soak(cluster, duration, seed)
    text = report(rows, duration)
    print(text)
    if path := os.environ.get("PERENNIAL_SOAK_REPORT"):
        Path(path).write_text(text)
    assert [row for row in rows if row.lost] == []
    assert [row for row in rows if row.gone > row.allowed] == []
    assert [row for row in rows if row.fault.startswith(GENTLE) and row.recomputed] == []
    assert max(row.outage for row in rows) < OUTAGE
    assert len(rows) >= duration / EVERY / 2, "too few faults"
    scheduler = cluster.network[MACHINES[0]]
    assert show(scheduler, "dask-lab-scheduler", "NRestarts") == "0"


@pytest.mark.lab
@pytest.mark.timeout(900)
def test_three_minutes_of_faults(cluster: Standing) -> None:
    judge(cluster, 180.0, SEED)


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_half_an_hour_of_faults(cluster: Standing) -> None:
    judge(cluster, 1800.0, SEED + 1)
