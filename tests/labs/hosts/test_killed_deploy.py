"""A deploy that is killed anywhere, and run again, ends as one that nobody disturbed.

Killed is all of it at once, with no chance to tidy up: `perennial`, Pulumi's engine, its
providers; and the program on a machine alone. When, a seed decides.
"""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest

from tests.labs.hosts.network import Network
from tests.labs.hosts.seat import Seat
from tests.labs.hosts.standing import (
    MACHINES,
    Standing,
    cleared,
    complaints,
    difference,
    wait_until,
)

pytestmark = pytest.mark.timeout(900)

SEED = 5
FIRST, MORE = MACHINES[:2], MACHINES[2]
ORDER = ("up", "memory", "add", "down")
#: The program on a machine, and not the one that kills it.
AGENT = "perennial[.]hosts[.]agent[.]main"


class Story:
    """The life of a cluster in four commands, and what each leaves when nobody disturbs it."""

    def __init__(self, network: Network) -> None:
        network.machines(*MACHINES)
        self.cluster = Standing(network)
        self.pictures: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, int] = {}
        for step in ORDER:
            self.lines[step] = len(self.cluster.run(*self.command(step)).stderr.splitlines())
            self.pictures[step] = self.cluster.picture()

    def command(self, step: str) -> tuple[str, ...]:
        """Edit the cluster file for a step; give the command."""
        if step == "up":
            self.cluster.place(*FIRST, workers=2)
            self.cluster.memory("512 MiB")
        elif step == "memory":
            self.cluster.memory("640 MiB")
        elif step == "add":
            self.cluster.place(*MACHINES, workers=2)
        return ("down", "--force") if step == "down" else ("up", "--yes")

    def killed(self, step: str, lines: int, seconds: float) -> bool:
        """Run a step and kill it; whether it was still at work.

        Parameters
        ----------
        step : str
            The step.
        lines : int
            Lines that it has said by then, which tell its progress however busy the machine is.
        seconds : float
            Seconds after the last of them.
        """
        process = self.cluster.operator.popen("perennial", *self.command(step))
        assert process.stderr is not None
        for _ in range(lines):
            process.stderr.readline()
        time.sleep(seconds)
        working = process.poll() is None
        Seat.kill(process)
        process.communicate()
        return working

    def again(self, step: str) -> list[str]:
        """Run a step to its end; returns where the outcome differs from the undisturbed one."""
        words = self.command(step)
        done = self.cluster.run(*words, check=False)
        # Killed at its very end, it had done everything.
        over = step == "down" and "no cluster" in done.stderr
        assert not done.returncode or over, done.stderr
        return difference(self.pictures[step], self.cluster.picture())


@pytest.fixture(scope="module")
def story(network: Network) -> Story:
    return Story(network)


@pytest.mark.lab
def test_undisturbed(story: Story) -> None:
    up, down = story.pictures["up"], story.pictures["down"]
    assert up["workers"] == ["cpu-machine-b-0", "cpu-machine-b-1"]
    more = ["cpu-machine-c-0", "cpu-machine-c-1"]
    assert story.pictures["add"]["workers"] == [*up["workers"], *more]
    assert not any(up[key] for key in ("pending", "drift", "locks", "left", "operator"))
    assert cleared(up, [MORE])
    assert cleared(down, MACHINES)
    for name in FIRST:  # another machine's coming changes nothing here
        added = story.pictures["add"]["machines"][name]
        assert not difference(story.pictures["memory"]["machines"][name], added)


def kill_and_repeat(story: Story, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    report: list[str] = []
    hits = 0
    for step in itertools.cycle(ORDER):
        # Twice in a row at times: what a killed deploy left may be left by the next.
        for _ in range(chance.choice((1, 1, 2)) if kills > 5 else 1):
            lines, seconds = chance.randint(0, story.lines[step] - 1), chance.uniform(0, 1.5)
            working = story.killed(step, lines, seconds)
            hits += working
            when = f"{seconds:.1f} s after {lines} of {story.lines[step]} lines"
            report.append(f"{step} killed {when}{'' if working else ', when it was over'}")
            print(report[-1], flush=True)
        found = story.again(step)
        assert not found, "\n".join([*report, *found])
        if len(report) >= kills:
            break
    assert hits >= len(report) / 2, "most came when it was over"


@pytest.mark.lab
def test_killed_anywhere_and_run_again(story: Story) -> None:
    kill_and_repeat(story, SEED, 5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_often_and_run_again(story: Story) -> None:
    kill_and_repeat(story, SEED + 1, 20)


@pytest.mark.lab
def test_the_program_on_a_machine_is_killed(story: Story) -> None:
    machine = story.cluster.network["machine-b"]
    assert not story.again("up")
    process = story.cluster.operator.popen("perennial", *story.command("memory"))
    # It is at work when the first worker restarts.
    unit = "dask-lab-cpu@0.service"
    busy = ("systemctl", "is-active", unit)
    wait_until(lambda: machine.run(*busy, check=False).stdout != "active\n", 60)
    machine.run("pkill", "-KILL", "-f", AGENT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    (line,) = [line for line in errors.splitlines() if not line.startswith("lab: ")]
    assert line.startswith("machine-b: "), line
    assert not story.again("memory")
    story.cluster.down()
    assert complaints(story.cluster.run("list")) == []
