"""A deploy that is killed anywhere, and run again, ends as one that nobody disturbed.

Killed is all of it at once, with no chance to tidy up: `perennial`, Pulumi's engine, its
providers; and the program on a machine alone. When, a seed decides.
"""

from __future__ import annotations

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
MORE = "machine-d"
ORDER = ("up", "memory", "add", "down")
AGENT = "perennial.hosts.agent.main"


class Story:
    """The life of a cluster in four commands, and what each leaves when nobody disturbs it."""

    def __init__(self, network: Network) -> None:
        network.machines(*MACHINES, MORE)
        self.cluster = Standing(network)
        self.pictures: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        for step in ORDER:
            begin = time.monotonic()
            self.cluster.run(*self.command(step))
            self.seconds[step] = time.monotonic() - begin
            self.pictures[step] = self.cluster.picture()

    def command(self, step: str) -> tuple[str, ...]:
        """Edit the cluster file for a step; give the command."""
        if step == "up":
            self.cluster.place(*MACHINES)
            self.cluster.memory("512 MiB")
        elif step == "memory":
            self.cluster.memory("640 MiB")
        elif step == "add":
            self.cluster.place(*MACHINES, MORE)
        return ("down", "--force") if step == "down" else ("up", "--yes")

    def killed(self, step: str, after: float) -> bool:
        """Run a step and kill it after so many seconds; whether it was still at work."""
        process = self.cluster.operator.popen("perennial", *self.command(step))
        time.sleep(after)
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
    assert up["workers"] == ["cpu-machine-b-0", "cpu-machine-c-0"]
    assert story.pictures["add"]["workers"] == [*up["workers"], "cpu-machine-d-0"]
    assert not any(up[key] for key in ("pending", "drift", "locks", "left", "operator"))
    assert cleared(up, [MORE])
    assert cleared(down, [*MACHINES, MORE])
    for name in MACHINES:  # another machine's coming changes nothing here
        added = story.pictures["add"]["machines"][name]
        assert not difference(story.pictures["memory"]["machines"][name], added)


def kill_and_repeat(story: Story, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    left, report = kills, []
    while left:
        for step in ORDER:
            # Twice in a row at times: what a killed deploy left may be left by the next.
            for _ in range(min(left, chance.choice((1, 1, 2)) if kills > 5 else 1)):
                after = chance.uniform(0.3, story.seconds[step])
                working = story.killed(step, after)
                report.append(f"{step} killed after {after:.1f} s{'' if working else ', done'}")
                left -= 1
            found = story.again(step)
            assert not found, "\n".join([*report, *found])
    print("\n".join(report))


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
