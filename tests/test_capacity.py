"""How many members a machine can hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perennial.capacity import (
    PER_CORE,
    SERVICES,
    STARTS,
    Capacity,
    MachineResources,
    Use,
    refusal,
    starting,
    starts,
    total,
)

GIB = 2**30
uses = st.builds(Use, st.integers(0, 200), st.integers(0, 64 * GIB))
members = st.builds(Use, st.integers(1, 8), st.integers(0, 16 * GIB))
machines = st.builds(Capacity, st.integers(1, 64), st.integers(GIB, 256 * GIB), st.integers(0, 99))


@given(machines, uses, members)
def test_so_many_fit_and_one_more_does_not(machine: Capacity, used: Use, each: Use) -> None:
    more = machine.more(used, each)
    assert more >= 0
    assert not more or machine.fits(used + each * more)
    assert not machine.fits(used + each * (more + 1))


@given(machines, uses, members, members)
def test_what_stands_already_leaves_no_more_room(
    machine: Capacity, used: Use, one: Use, other: Use
) -> None:
    assert machine.more(used + other, one) <= machine.more(used, one)


@given(st.lists(members, max_size=6))
def test_uses_add_up(found: list[Use]) -> None:
    assert total(found) == Use(sum(u.processes for u in found), sum(u.memory for u in found))


def test_other_services_take_their_limits_but_no_more_than_a_part() -> None:
    assert Capacity(2, 24 * GIB, 1 * GIB).holds == Use(2 * PER_CORE, 23 * GIB)
    assert Capacity(2, 8 * GIB, 9 * GIB).holds.memory == 8 * GIB * (1 - SERVICES)


def test_a_thousand_workers_do_not_fit_on_two_cores() -> None:
    machine, each = Capacity(2, 24 * GIB, GIB), Use(1, 500 * 2**20)
    assert not machine.fits(each * 1000)
    assert machine.more(each * 4, each) == 28


@given(st.integers(1, 64), st.floats(0, 1e3), st.integers(0, 100))
def test_few_are_started_on_a_busy_machine(cores: int, load: float, free: int) -> None:
    found = starts(cores, load, free, 100)
    assert found <= STARTS * cores
    assert (found == 0) == (free < 5)
    assert load <= 8 * cores or found <= 1


sizes = st.dictionaries(st.sampled_from(["cpu", "gpu"]), st.integers(0, 300))


@given(machines, members, members, sizes, uses)
def test_sizes_are_refused_which_are_too_large_and_do_not_stand_already(
    machine: Capacity, cpu: Use, gpu: Use, wanted: dict[str, int], before: Use
) -> None:
    each = {"cpu": cpu, "gpu": gpu}
    asked = total(each[name] * size for name, size in wanted.items())
    why = refusal(each, wanted, machine, before, "machine-b")
    stands = asked.processes <= before.processes and asked.memory <= before.memory
    beyond = asked.processes > machine.most
    assert (not why) == (not beyond and (machine.fits(asked) or stands))
    assert not why or beyond or f"what machine-b holds, {machine.cores} core" in why
    # Who means it is refused nothing but what has no room while it does nothing.
    assert bool(refusal(each, wanted, machine, asked)) == beyond
    assert bool(refusal(each, wanted, machine, before, meant="")) == beyond
    # What helps is named, and what does not is not.
    assert why.endswith(" add --force") == (bool(why) and not beyond)


@given(st.integers(1, 64), st.integers(0, 300), st.integers(1, 8), st.floats(0, 600))
def test_members_on_their_way_leave_less_to_start(
    cores: int, begun: int, each: int, load: float
) -> None:
    now = MachineResources(cores, 100, 50, load)
    some = starting(now, each, begun)
    at_once = starts(cores, load, 50, 100)
    assert (some == 0) == (begun >= at_once)
    assert not some or begun + each * (some - 1) < at_once
