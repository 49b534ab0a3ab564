"""Typed arguments: the keys of a cluster file, and the cluster that a dictionary makes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pulumi
import pytest

from perennial.errors import SpecError
from perennial.stacks import args, inputs
from perennial.stacks.hosts import (
    EnvironmentArgs,
    HostsClusterArgs,
    HostsOptionsArgs,
    MachineArgs,
    ScaleArgs,
    WorkerGroupArgs,
)

ROOT = Path(__file__).parents[2]


def test_the_files_are_what_the_models_say() -> None:
    described = spec_from_file_location("generate_pulumi", ROOT / "docs" / "generate_pulumi.py")
    assert described is not None
    assert described.loader is not None
    module = module_from_spec(described)
    described.loader.exec_module(module)
    files = {path.name: path.read_text() for path in (ROOT / "stacks" / "args").glob("*.py")}
    assert module.render() == files, f"run `{Path(sys.executable).name} docs/generate_pulumi.py`"


def typed(**keys: object) -> HostsClusterArgs:
    return HostsClusterArgs(
        name="lab",
        environment=EnvironmentArgs(python="/p"),
        workers={"cpu": WorkerGroupArgs(memory="2 GiB", scale=ScaleArgs(min=1, max=3))},
        hosts=HostsOptionsArgs(machines=[MachineArgs(address="ma"), "mb"]),
        **keys,  # type: ignore[arg-type]
    )


def test_typed_arguments_and_a_dictionary_are_the_same_cluster() -> None:
    plain = {
        "name": "lab",
        "environment": {"python": "/p"},
        "workers": {"cpu": {"memory": "2 GiB", "scale": {"min": 1, "max": 3}}},
        "hosts": {"machines": [{"address": "ma"}, "mb"]},
    }
    assert inputs.read(typed(), "hosts") == inputs.read(plain, "hosts")


def test_none_takes_away_what_is_there_otherwise() -> None:
    assert inputs.read(typed(), "hosts").spec.jupyter is not None
    assert inputs.read(typed(jupyter=None), "hosts").spec.jupyter is None


def test_a_word_of_python_has_a_line_behind_it() -> None:
    schedule = args.ScheduleArgs(from_="08:00", to="18:00", min=2)
    scale = ScaleArgs(max=4, schedules=[schedule])
    made = typed()
    made.workers = {"cpu": WorkerGroupArgs(scale=scale)}
    found = inputs.read(made, "hosts").spec.workers["cpu"].scale
    assert found is not None
    assert found.schedules[0].start == "08:00"


@pytest.fixture
def loop() -> Iterator[None]:
    """The loop of the thread, which an Output needs; other tests leave none."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    made.run_until_complete(asyncio.gather(*asyncio.all_tasks(made)))
    asyncio.set_event_loop(None)
    made.close()


@pytest.mark.usefixtures("loop")
def test_an_output_stands_where_a_value_may() -> None:
    made = typed()
    address = pulumi.Output.from_input("10.0.0.1")
    made.hosts = HostsOptionsArgs(machines=[MachineArgs(name="ma", address=address)])
    found = inputs.read(made, "hosts")
    assert found.tree["hosts"]["machines"][0]["address"] is address
    assert [*found.spec.options.assignments(found.spec)] == ["ma"]


@pytest.mark.usefixtures("loop")
def test_outputs_in_a_long_list_keep_their_places() -> None:
    made = typed()
    words = [f"--word-{place}" for place in range(12)]
    wanted = [
        pulumi.Output.from_input(word) if place % 2 else word for place, word in enumerate(words)
    ]
    made.workers = {"cpu": WorkerGroupArgs(memory="2 GiB", extra_args=wanted)}
    assert inputs.read(made, "hosts").tree["workers"]["cpu"]["extra_args"] == wanted


def test_a_fault_has_no_line_that_nobody_wrote() -> None:
    made = typed()
    made.workers = {"cpu": WorkerGroupArgs(memory="much")}
    with pytest.raises(SpecError, match=r"^args: workers\.cpu\.memory: found 'much'"):
        inputs.read(made, "hosts")
