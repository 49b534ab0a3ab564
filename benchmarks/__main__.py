"""`make bench`: print the table of ratios. Every pair is measured in this one run."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks import demand
from benchmarks.measure import Chosen, Figure, absolute, clock, ratio, table
from benchmarks.standing import Home, by_hand_to_first_result, up_to_first_result

REPOSITORY = Path(__file__).parent.parent


def work(home: Home, where: str, what: str) -> float:
    """Seconds of one kind of work in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.work", where, what],
        env=home.environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def process(home: Home, where: str) -> float:
    """Seconds of a whole new Python process to its first result, its start included."""
    return clock(lambda: work(home, where, "first"))


def supervision(home: Home) -> float:
    """Resident MB of everything that is neither Dask nor Jupyter."""
    supervisord = home.supervisord()
    listener = [p for p in supervisord.children() if "perennial.local.health" in p.cmdline()]
    assert len(listener) == 1
    return sum(p.memory_info().rss for p in [supervisord, *listener]) / 1e6


def help_time(home: Home) -> float:
    """Seconds of `perennial --help`."""
    return clock(lambda: home.perennial("--help"))


def measure(repeats: int, only: str | None) -> list[Figure]:
    """Measure everything, or the figures whose letter is in ``only``."""
    chosen = Chosen(only)
    take = chosen.take
    take(
        "a",
        lambda: ratio(
            "(a) `perennial up` ÷ by hand, to the first result",
            up_to_first_result,
            by_hand_to_first_result,
            1.15,
            repeats,
        ),
    )
    home = Home()
    home.up()
    try:
        take(
            "b",
            lambda: ratio(
                "(b) new process with `Client()`, standing ÷ LocalCluster",
                lambda: process(home, "standing"),
                lambda: process(home, "local"),
                0.4,
                repeats,
            ),
        )
        for what, label in (("tiny", "20,000 tiny tasks"), ("shuffle", "500 MB shuffle")):
            take(
                "c",
                lambda what=what, label=label: ratio(  # type: ignore[misc]
                    f"(c) speed of {label}, standing with TLS ÷ LocalCluster",
                    lambda: work(home, "standing", what),
                    lambda: work(home, "local", what),
                    0.95,
                    repeats,
                    at_most=False,
                ),
            )
        take("d", lambda: absolute("(d) unchanged `up`", lambda: clock(home.up), 1.0, repeats))
        take(
            "e",
            lambda: absolute(
                "(e) memory beside Dask and Jupyter", lambda: supervision(home), 60, repeats, "MB"
            ),
        )
        take(
            "f",
            lambda: absolute("(f) `perennial --help`", lambda: help_time(home), 0.25, 2 * repeats),
        )
    finally:
        home.down()
        home.close()
    if chosen.has("g"):
        chosen.figures += demand.measure(demand.Size(10_000, 1_000_000, 20), 5_000, 3 * repeats)
    return chosen.figures


def main() -> None:
    """Run the benchmarks and print the table and the machine."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="letters of the figures, such as 'bd'")
    arguments = parser.parse_args()
    figures = measure(arguments.repeats, arguments.only)
    import distributed

    memory = psutil.virtual_memory().total / 2**30
    print(
        f"\n{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, distributed {distributed.__version__}; "
        f"{arguments.repeats} turns, median and spread\n"
    )
    print(table(figures))


if __name__ == "__main__":
    main()
