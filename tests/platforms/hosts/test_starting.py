"""A machine's services are started in steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.capacity import STARTS, MachineResources
from perennial.errors import FleetError
from perennial.platforms.hosts import starting
from perennial.platforms.hosts.desired_state import DesiredMember, desired_state
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.platforms.hosts.starting import batch, start_in_steps
from tests.platforms.hosts.clusters import spec_of


class Agent:
    """Remembers what it is asked to start, on a machine of two cores."""

    name = "machine-b"

    def __init__(self, available: int = 50) -> None:
        self.now = {"cores": 2, "memory": 100, "available": available, "load": 0.0}
        self.steps: list[tuple[list[str], list[str]]] = []

    def ask(self, what: str, **given: Any) -> Any:
        if what == "machine":
            return self.now
        assert (what, given["wait"]) == ("systemd_start", True)
        self.steps.append((given["units"], given["targets"]))
        return None


def members(**processes: int) -> dict[str, DesiredMember]:
    return {
        name: DesiredMember(name, "mark", name if n else None, n) for name, n in processes.items()
    }


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(1, 8), st.floats(0, 100))
def test_a_step_is_no_larger_than_the_machine_allows(
    processes: list[int], cores: int, load: float
) -> None:
    some = batch(processes, MachineResources(cores, 100, 50, load))
    begun = processes[:some]
    assert sum(begun) - max([0, *begun]) < STARTS * cores
    assert some or not processes
    assert batch([0, 0], MachineResources(1, 100, 0)) == 2


def test_other_services_come_first_and_each_unit_once() -> None:
    agent: Any = Agent()
    wanted = members(a=1, b=1, scheduler=0, c=1, d=1, e=1, f=2)
    start_in_steps(agent, list(wanted), wanted, ["dask-lab.target"])
    assert agent.steps == [
        (["scheduler", "a", "b", "c", "d"], ["dask-lab.target"]),
        (["e", "f"], []),
    ]


def test_a_machine_that_starts_nothing_is_asked_nothing_more() -> None:
    agent: Any = Agent(available=0)
    start_in_steps(agent, [], {}, ["dask-lab.target"])
    start_in_steps(agent, ["scheduler"], members(scheduler=0), [])
    assert agent.steps == [([], ["dask-lab.target"]), (["scheduler"], [])]


def test_a_machine_without_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "TIMEOUT", 0.0)
    agent: Any = Agent(available=4)
    with pytest.raises(FleetError, match=r"^machine-b: no member is started while 0\.0 GiB of"):
        start_in_steps(agent, ["a"], members(a=1), [])
    assert agent.steps == []


def test_a_member_is_counted_with_all_its_processes() -> None:
    spec = spec_of(workers={"cpu": {"count": 2, "processes": 3}})
    found = {}
    for name, assigned in services_by_machine(spec).items():
        parts = [part.at("10.0.0.9", "/usr/bin/python3.11") for part in assigned.services]
        wanted = desired_state("lab", parts, assigned.counts, {})
        found[name] = {each.name: each.processes for each in wanted.members.values()}
    assert found["machine-a"] == {"scheduler": 0, "jupyter": 0}
    assert set(found["machine-b"].values()) == {3}
