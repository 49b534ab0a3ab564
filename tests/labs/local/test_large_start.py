"""A slip of the hand, and a large start that is meant and then not: on real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.homes import Home, make_home, wait_until
from tests.ports import free_ports

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

#: Members that are asked for: more than start at a time on a small machine.
MANY = 12


@pytest.fixture
def home() -> Iterator[Home]:
    for home in make_home():
        [port] = free_ports(1)
        home.spec["scheduler"]["memory"] = "512 MiB"
        home.spec["workers"] = {
            "cpu": {"memory": "300 MiB", "drain": "20 s", "scale": {"min": 0, "max": 4}}
        }
        home.spec["scaler"] = {"port": port}
        home.write()
        home.up()
        yield home
        home.run("down", "--force")


def members(home: Home) -> int:
    return len(list((home.state / "conf.d").glob("cpu-*.conf")))


def test_what_is_too_large_is_refused_and_changes_nothing(home: Home) -> None:
    said = home.run("scale", "cpu=100", code=1)
    assert said.startswith("cpu=100: allowed: up to 4, the largest scale.max of cpu in")
    assert said.rstrip().endswith("or add --force")
    assert members(home) <= 1
    # The file is held to what the machine has.
    before = home.file.read_text()
    home.spec["workers"]["many"] = {"count": 100, "memory": "10000 GiB"}
    home.write()
    for words in (("plan",), ("up", "--yes")):
        said = home.run(*words, "--file", str(home.file), code=1)
        assert "many=100: 10" in said, said
        assert "GiB of memory limits; allowed: what this machine holds" in said
        assert said.rstrip().endswith("or add --force")
    home.file.write_text(before)
    assert members(home) <= 1


@pytest.mark.parametrize("undone", ["scale", "pause", "down"])
def test_a_large_start_is_undone_in_the_middle(home: Home, undone: str) -> None:
    home.run("scale", f"cpu={MANY}", "--force")
    wait_until(lambda: members(home) >= 3, 120)
    at_once = members(home)
    assert at_once < MANY, "they were started all at once"
    begun = time.monotonic()
    if undone == "down":
        home.run("down", "--force")
        assert home.processes() == []
        home.up()
    elif undone == "pause":
        home.run("pause")
        held = members(home)
        time.sleep(5)
        assert members(home) == held
    else:
        home.run("scale", "cpu=1")
        wait_until(lambda: members(home) == 1, 60)
        wait_until(lambda: len(home.workers()) == 1, 60)
    assert time.monotonic() - begun < 120
