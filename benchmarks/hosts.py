"""`make bench-hosts`: figures of clusters on hosts, measured in the lab of real machines.

All machines stand on this one and share its processors; what is asked of a ratio is asked of it
here as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import yaml

from benchmarks import many, stack
from benchmarks.measure import Chosen, Figure, absolute, clock, ratio, table
from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network
from tests.labs.hosts.seat import Seat
from tests.labs.pulumi import engine
from tests.stacks.conftest import passing

NAMES = [f"machine-{letter}" for letter in "abcdefgh"]
CLIENT = "from distributed import Client; client = Client(timeout=60); "

#: What Dask's processes have on their command line.
DASK = r"[d]istributed.cli|[d]ask (scheduler|worker)|[d]ask_spec"

SSH_CLUSTER = """
import os, sys, time
from distributed import Client, SSHCluster
begun = time.perf_counter()
cluster = SSHCluster(
    sys.argv[1:], connect_options={"username": "ops"}, remote_python=%r,
    worker_options={"nthreads": 1}, scheduler_options={"port": 0, "dashboard": False},
)
client = Client(cluster)
assert client.submit(sum, [1, 2]).result() == 3
print(time.perf_counter() - begun, flush=True)
time.sleep(3600)
"""


class Bench:
    """A seat from which clusters are deployed to some of the lab's machines.

    Parameters
    ----------
    seat : Seat
        The operator's.
    """

    def __init__(self, seat: Seat) -> None:
        self.seat = seat

    def perennial(self, *words: str, timeout: float = 300) -> str:
        """Run our command."""
        return str(self.seat.run("perennial", *words, timeout=timeout).stdout)

    def write(self, name: str, machines: list[str], **group: Any) -> str:
        """Write a cluster file with a worker on each machine, and no Jupyter."""
        first, *rest = machines
        placed = [{"address": first, "roles": ["scheduler", {"cpu": 1}]}]
        placed += [{"address": machine, "roles": [{"cpu": 1}]} for machine in rest]
        data = {
            "name": name,
            "platform": "hosts",
            "environment": {"python": PYTHON},
            "jupyter": None,
            "workers": {"cpu": {"memory": "512 MiB", **group}},
            "hosts": {"machines": placed},
        }
        (self.seat.home / f"{name}.yaml").write_text(yaml.safe_dump(data))
        return f"{name}.yaml"

    def deploy(self, machines: list[str]) -> float:
        """Seconds of `up` from nothing; takes the cluster down again."""
        file = self.write("bench", machines)
        seconds = clock(lambda: self.perennial("up", "--yes", "--no-connect", "-f", file))
        self.perennial("down", "--force", "--purge", "-c", "bench")
        return seconds

    @contextmanager
    def standing(self, machines: list[str]) -> Iterator[str]:
        """A cluster that stands meanwhile; gives its file."""
        file = self.write("bench", machines)
        self.perennial("up", "--yes", "-f", file)
        try:
            yield file
        finally:
            self.perennial("down", "--force", "--purge", "-c", "bench")


def sent(machine: Host) -> int:
    """Bytes that have come to a machine's sshd so far."""
    said = machine.run("nft", "-j", "list", "counter", "inet", "bench", "ssh").stdout
    return int(json.loads(said)["nftables"][-1]["counter"]["bytes"])


def count_bytes(machine: Host) -> None:
    """Begin to count what comes to a machine's sshd."""
    machine.run("nft", "add table inet bench; add counter inet bench ssh")
    machine.run("nft", "add chain inet bench in { type filter hook input priority 0 ; }")
    machine.run("nft", "add rule inet bench in tcp dport 22 counter name ssh")


def unchanged_bytes(bench: Bench, file: str, machines: list[Host]) -> float:
    """Most kB that any machine is sent by an unchanged `up`."""
    before = [sent(machine) for machine in machines]
    bench.perennial("up", "--yes", "-f", file)
    return max(sent(m) - b for m, b in zip(machines, before, strict=True)) / 1000


def recovery(bench: Bench, machine: Host, workers: int) -> float:
    """Seconds from the death of the scheduler until all workers are back."""
    code = (
        "import json, sys, time, urllib.request\n"
        "begun = time.monotonic()\n"
        "url = 'http://127.0.0.1:8787/json/identity.json'\n"
        "while time.monotonic() < begun + 120:\n"
        "    try: found = len(json.load(urllib.request.urlopen(url, timeout=1))['workers'])\n"
        "    except OSError: found = 0\n"
        "    if found == int(sys.argv[1]): print(time.monotonic() - begun); break\n"
        "    time.sleep(0.05)\n"
    )
    machine.run("systemctl", "kill", "--signal=KILL", "dask-bench-scheduler")
    return float(machine.run("python3", "-c", code, str(workers), timeout=150).stdout)


def thousand(count: int) -> float:
    """Seconds to read, divide, render and plan a cluster of many machines."""
    from perennial.platforms.hosts.desired_state import desired_state
    from perennial.platforms.hosts.machine_services import (
        environment_spec,
        services_by_machine,
        to_json,
    )
    from perennial.platforms.hosts.plan import MachineState, steps
    from perennial.spec import loads

    text = yaml.safe_dump(_large(count))

    def run() -> None:
        spec = loads(text)
        for name, assigned in services_by_machine(spec).items():
            parts = [part.at("10.0.0.1") for part in assigned.services]
            desired_state(spec.name, parts, assigned.counts, {})
            assert steps(
                name,
                MachineState(),
                MachineState(to_json(assigned), environment_spec(spec, assigned)),
            )

    return clock(run)


def planned(bench: Bench, count: int) -> float:
    """Seconds of `perennial plan` for a new cluster of many machines; it asks no engine."""
    (bench.seat.home / "large.yaml").write_text(yaml.safe_dump(_large(count)))
    return clock(lambda: bench.perennial("plan", "-f", "large.yaml", timeout=900))


def planned_again(count: int) -> float:
    """Seconds of `perennial plan` for a cluster of many machines that stands and is to change.

    The engine, the providers and the command are real; the machines are folders.
    """
    with passing(engine()) as site:
        site.spec = _large(count)
        # What asks a machine by SSH and not through the stand-in has its answer at once: none.
        commands = site.root / "commands"
        commands.mkdir()
        (commands / "ssh").symlink_to("/bin/false")
        site.environment["PATH"] = f"{commands}:{site.environment['PATH']}"
        # Only for the making: the engine else writes its whole state for each machine.
        site.environment["PULUMI_SKIP_CHECKPOINTS"] = "true"
        site.run("up", "--yes", nap=0, timeout=1800)
        for group in site.spec["workers"].values():
            group["memory"] = "3 GiB"
        return clock(lambda: site.run("plan", nap=0, timeout=1800))


def _large(count: int) -> dict[str, Any]:
    groups = [f"group-{index}" for index in range(5)]
    machines = [
        {"address": f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}", "roles": [*groups]}
        for n in range(count)
    ]
    machines[0]["roles"] = ["scheduler", *groups]
    return {
        "name": "large",
        "platform": "hosts",
        "environment": {"python": PYTHON},
        "jupyter": None,
        "workers": {group: {"count": count} for group in groups},
        "hosts": {"machines": machines},
    }


def ssh_cluster(bench: Bench, machines: list[Host]) -> tuple[float, int]:
    """Seconds of Dask's SSHCluster to a first result, and Dask processes once its client died."""
    script = bench.seat.home / "ssh_cluster.py"
    script.write_text(SSH_CLUSTER % PYTHON)
    names = [machines[0].name, *(machine.name for machine in machines)]
    process = bench.seat.popen(sys.executable, str(script), *names)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(process.communicate()[1])
    finally:
        bench.seat.kill(process)
    left = _left(machines)
    for machine in machines:  # what it leaves holds the ports
        machine.run("pkill", "-KILL", "-f", DASK, check=False)
    return float(line), left


def ours(bench: Bench, machines: list[Host]) -> tuple[float, int]:
    """Seconds of `perennial up` to a first result, and Dask processes once its client died."""
    file = bench.write("bench", [machine.name for machine in machines])
    code = CLIENT + "print(client.submit(sum, [1, 2]).result(), flush=True); input()"

    def first() -> Any:
        bench.perennial("up", "--yes", "-f", file)
        process = bench.seat.popen(sys.executable, "-c", code)
        assert process.stdout is not None
        assert process.stdout.readline().strip() in ("3", b"3")
        return process

    begun = time.perf_counter()
    process = first()
    seconds = time.perf_counter() - begun
    bench.seat.kill(process)
    left = _left(machines)
    bench.perennial("down", "--force", "--purge", "-c", "bench")
    return seconds, left


def _left(machines: list[Host], wait: float = 20.0) -> int:
    """Dask's processes on some machines, a while after somebody has died."""
    time.sleep(wait)
    found = [machine.run("pgrep", "-fc", DASK, check=False).stdout for machine in machines]
    return sum(int(text or 0) for text in found)


def by_size(
    chosen: Chosen, letter: str, what: str, seconds: Callable[[int], float], repeats: int
) -> None:
    """Measure the same of 100, 300 and 1,000 machines."""
    for count in (100, 300, 1000):
        name = f"({letter}) {what.format(f'{count} machines × 5 groups')}"
        run = partial(absolute, name, partial(seconds, count), 20 * count / 1000, repeats)
        chosen.take(letter, run)


def without_machines(chosen: Chosen, repeats: int) -> None:
    """Measure what needs no machine."""
    by_size(chosen, "k", "render and plan {}", thousand, repeats)
    if chosen.has("t"):
        for count in (100, 1000):
            print(many.row(count), flush=True)
    by_size(chosen, "o", "`perennial plan` of {} that stand, all to change", planned_again, 1)
    stack.without_machines(chosen)


def on_machines(network: Network, chosen: Chosen, repeats: int) -> None:
    """Measure what needs eight machines."""
    machines, take = network.machines(*NAMES), chosen.take
    bench = Bench(network.operator)
    stack.on_machines(network.operator, chosen, NAMES, repeats)
    first = "first `perennial plan` of {}, the whole command"
    by_size(chosen, "l", first, partial(planned, bench), 1)
    take(
        "g",
        lambda: ratio(
            "(g) `up` of 8 machines ÷ 1 machine, from nothing",
            lambda: bench.deploy(NAMES),
            lambda: bench.deploy(NAMES[:1]),
            1.6,
            repeats,
        ),
    )
    if chosen.has("hij"):
        with bench.standing(NAMES) as file:
            again = lambda: clock(lambda: bench.perennial("up", "--yes", "-f", file))  # noqa: E731
            take("h", lambda: absolute("(h) unchanged `up`, 8 machines", again, 2.5, repeats))
            for machine in machines:
                count_bytes(machine)
            take(
                "i",
                lambda: absolute(
                    "(i) bytes sent to a machine by an unchanged `up`",
                    lambda: unchanged_bytes(bench, file, machines),
                    20,
                    repeats,
                    "kB",
                ),
            )
            take(
                "j",
                lambda: absolute(
                    "(j) all 8 workers back after the scheduler was killed",
                    lambda: recovery(bench, machines[0], 8),
                    10,
                    repeats,
                ),
            )
    if chosen.has("m"):
        three = machines[:3]
        theirs, mine = ssh_cluster(bench, three), ours(bench, three)
        print(
            f"| (m) three machines, to the first result: SSHCluster {theirs[0]:.1f} s, ours"
            f" {mine[0]:.1f} s; Dask processes left 20 s after the client was killed:"
            f" SSHCluster {theirs[1]}, ours {mine[1]} |",
            flush=True,
        )
    if chosen.has("n"):
        # Eight machines that share two processors are no eight machines; so confined, they
        # and their operator have as much as one machine and its operator.
        for machine in machines:
            machine.confine(0.1)
    take(
        "n",
        lambda: ratio(
            "(n) the same, each machine with a tenth of a processor",
            lambda: bench.deploy(NAMES),
            lambda: bench.deploy(NAMES[:1]),
            1.6,
            repeats,
        ),
    )


def measure(repeats: int, only: str | None) -> list[Figure]:
    """Measure everything, or the figures whose letter is in ``only``."""
    chosen = Chosen(only)
    without_machines(chosen, repeats)
    if chosen.has("ghijlmnpq"):
        with Network(engine=engine()) as network:
            on_machines(network, chosen, repeats)
    return chosen.figures


def main() -> None:
    """Run the benchmarks and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-hosts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="letters of the figures, such as 'gh'")
    arguments = parser.parse_args()
    print(table(measure(arguments.repeats, arguments.only)))


if __name__ == "__main__":
    main()
