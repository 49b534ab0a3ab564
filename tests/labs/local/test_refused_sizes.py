"""What is too large is refused before it is made: it costs the same, however large it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.homes import PERENNIAL, Home, make_home

pytestmark = pytest.mark.lab


@pytest.fixture
def home() -> Iterator[Home]:
    yield from make_home()


def effort(home: Home, *words: str) -> float:
    """Seconds of a processor that a command takes until it has refused."""
    process = subprocess.Popen(
        [PERENNIAL, *words], env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 1, said
    assert " worker processes" in said.splitlines()[-1]
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("words", [("plan",), ("up", "--yes"), ("up", "--yes", "--force")])
def test_a_file_costs_no_more_to_refuse_with_many_members(
    home: Home, words: tuple[str, ...]
) -> None:
    def refused(count: int) -> float:
        home.spec["workers"] = {"cpu": {"count": count, "memory": "1 GiB"}}
        home.write()
        return min(effort(home, *words, "--file", str(home.file)) for _ in range(2))

    assert refused(99_999) < 3 * refused(9_999)
    assert not home.state.exists()


@pytest.mark.parametrize("words", [(), ("--force",)])
def test_a_size_costs_no_more_to_refuse_when_it_is_large(
    home: Home, words: tuple[str, ...]
) -> None:
    home.up()

    def refused(size: int) -> float:
        return min(effort(home, "scale", f"cpu={size}", *words) for _ in range(2))

    assert refused(99_999) < 3 * refused(9_999)
    assert home.workers() == {"cpu-0", "cpu-1"}
    home.run("down", "--force")
