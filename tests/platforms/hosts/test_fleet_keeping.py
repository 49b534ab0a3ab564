"""What a keeper takes and refuses, and how a fleet spreads members: small and without processes."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.capacity import Capacity, MachineResources, Use
from perennial.errors import PerennialError
from perennial.platforms.hosts import relay
from perennial.platforms.hosts.agent import keeper
from perennial.platforms.hosts.agent.reconciling import (
    LONGEST,
    ON_ITS_WAY,
    UNSEEN,
    Ask,
    Bounds,
    Keeper,
    State,
    answer,
    asked,
    compare,
    on_their_way,
    respond,
)
from perennial.platforms.hosts.fleet import GroupOnMachine, planned, read

GIB = 2**30


class Units:
    """Members that are a dictionary."""

    def __init__(self, **groups: dict[int, State]) -> None:
        self.there: dict[str, dict[int, State]] = groups
        self.calls: list[tuple[str, str, list[int]]] = []

    def states(self) -> dict[str, dict[int, State]]:
        return {group: dict(states) for group, states in self.there.items()}

    def start(self, group: str, numbers: Collection[int]) -> None:
        self.calls.append(("start", group, sorted(numbers)))
        self.there[group].update(dict.fromkeys(numbers, "starting"))

    def stop(self, group: str, numbers: Collection[int]) -> None:
        self.calls.append(("stop", group, sorted(numbers)))
        self.there[group].update(dict.fromkeys(numbers, "leaving"))


#: A machine of four cores, of which nobody uses anything.
IDLE = MachineResources(4, 64 * GIB, 64 * GIB)
#: What is on it beside the group: one member of a group that the keeper does not keep.
USES = {"cpu": Use(1, GIB), "gpu": Use(2, 8 * GIB)}


def made(folder: Path, units: Units, most: int = 4, machine: MachineResources = IDLE) -> Keeper:
    bounds = Bounds(USES, GIB, lambda: machine)
    return Keeper({"cpu": most}, folder / "keeper" / "wanted.json", folder / "lock", units, bounds)


def ask(*want: int, unstarted: Collection[int] = (), id: str = "1") -> dict[str, Ask]:
    return {"cpu": Ask(id, frozenset(want), frozenset(unstarted))}


def message(**change: object) -> bytes:
    return json.dumps({"cpu": {"id": "1", "want": [0], "unstarted": [], **change}}).encode()


def test_a_step_looks_at_the_machine_once(tmp_path: Path) -> None:
    """Five times a second a look is what a keeper costs, and a step goes by one view of it."""
    looks: list[int] = []
    keeper = made(tmp_path, Units(cpu={0: "running"}))
    keeper.bounds = replace(keeper.bounds, look=lambda: looks.append(1) or IDLE)
    for said in (ask(0, 1), None, ask(0)):
        keeper.step(said)
        assert looks.pop() == 1
        assert not looks


def test_it_starts_what_is_asked_and_remembers_it_before(tmp_path: Path) -> None:
    units = Units(cpu={})
    told = made(tmp_path, units).step(ask(0, 2))
    assert told["cpu"] == {
        "wanted": [0, 2],
        "states": {"0": "starting", "2": "starting"},
        "most": 4,
        "done": "1",
        "room": 61,
        "step": 8,
        "holds": [4, 64 * GIB, GIB],
    }
    assert json.loads((tmp_path / "keeper/wanted.json").read_text()) == {"cpu": [0, 2]}
    assert (tmp_path / "keeper/wanted.json").stat().st_mode & 0o777 == 0o600
    # Another keeper finds what is missing, and what is too many.
    units.there["cpu"] = {2: "running", 3: "running"}
    made(tmp_path, units).step()
    assert units.calls[1:] == [("start", "cpu", [0]), ("stop", "cpu", [3])]


def test_where_nothing_is_written_down_what_runs_stays(tmp_path: Path) -> None:
    units = Units(cpu={1: "running", 2: "leaving"})
    told = made(tmp_path, units).step()
    assert told["cpu"]["wanted"] == [1]
    assert units.calls == []


def test_a_damaged_file_stops_nobody(tmp_path: Path) -> None:
    units = Units(cpu={1: "running"})
    (tmp_path / "keeper").mkdir()
    for text in ("", "[1]", '{"cpu": 3}', '{"cpu": ["0"]}', '{"cpu": [-1]}'):
        (tmp_path / "keeper/wanted.json").write_text(text)
        own = made(tmp_path, units)
        told = own.step(ask())
        assert told["cpu"]["wanted"] == [1]
        assert told["cpu"]["done"] is None
        assert "damaged" in own.trouble
    assert units.calls == []


def test_nothing_is_done_while_a_deploy_is_at_work(tmp_path: Path) -> None:
    units = Units(cpu={})
    own = made(tmp_path, units)
    with (tmp_path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert own.step(ask(0))["cpu"]["done"] is None
        assert "a deploy is at work" in own.trouble
        assert units.calls == []
    assert own.step(ask(0))["cpu"]["done"] == "1"
    assert own.trouble == ""


def test_who_is_given_up_and_runs_by_now_stays(tmp_path: Path) -> None:
    units = Units(cpu={0: "running", 1: "running", 2: "starting"})
    own = made(tmp_path, units)
    told = own.step(ask(0, unstarted=[1, 2]))
    assert told["cpu"]["wanted"] == [0, 1]
    assert units.calls == [("stop", "cpu", [2])]


def test_it_refuses_other_groups_and_numbers() -> None:
    most = {"cpu": 2}
    for group, want in (("ssh", 0), ("cpu", 2)):
        with pytest.raises(ValueError, match="allowed: "):
            answer(group, Ask("1", frozenset([want])), most, (), {})
    # Above a maximum that was lowered: whoever is there stays, and may go.
    assert answer("cpu", Ask("1", frozenset([0, 5])), most, [0, 5], {}) == {0, 5}
    assert answer("cpu", Ask("1", frozenset([0])), most, [0, 5], {}) == {0}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff",
        b"cos\nsystem\n(S'id'\ntR.",
        b"[" * 60_000,
        b"[]",
        b"null",
        b'{"sshd": {"id": "1", "want": [0], "unstarted": []}}',
        b'{"cpu": [0]}',
        message(more=1),
        message(want="0"),
        message(want=[-1]),
        message(want=["0"]),
        message(want=[0.5]),
        message(want=[True]),
        message(want=[100_000]),
        message(want={"0": 0}),
        message(want=[[0]]),
        message(unstarted=None),
        message(unstarted=["0/../../ssh"]),
        message(id=1),
        message(id="x" * 65),
        message(id="two words"),
        message(want=[0] * LONGEST),
    ],
)
def test_a_message_is_taken_or_refused_as_a_whole(tmp_path: Path, sent: bytes) -> None:
    with pytest.raises(ValueError, match=r"allowed: |not JSON"):
        asked(sent, ["cpu"])
    units = Units(cpu={1: "running"})
    own = made(tmp_path, units)
    with pytest.raises(PerennialError, match=r"^refused: "):
        respond(own, sent)
    assert units.calls == []
    assert asked(message(), ["cpu"]) == {"cpu": Ask("1", frozenset([0]))}


def test_a_large_target_is_started_in_steps_and_a_smaller_one_obeyed_at_once(
    tmp_path: Path,
) -> None:
    units = Units(cpu={}, gpu={0: "running"})
    own = made(tmp_path, units, 1000)
    assert own.step(ask(*range(1000)))["cpu"]["wanted"] == list(range(1000))
    own.step()
    assert set(units.there["cpu"]) == set(range(8))  # two for each core, until some run
    units.there["cpu"].update({0: "running", 1: "running", 2: "running"})
    own.step()
    assert set(units.there["cpu"]) == set(range(11))
    told = own.step(ask(0, 1, id="2"))
    assert told["cpu"]["wanted"] == [0, 1]
    assert units.calls[-1] == ("stop", "cpu", list(range(2, 11)))
    assert {n for n, state in units.there["cpu"].items() if state != "leaving"} == {0, 1}


def test_a_busy_machine_starts_one_and_one_without_memory_none(tmp_path: Path) -> None:
    busy, full = MachineResources(4, 100, 50, load=40.0), MachineResources(4, 100, 4)
    for machine, expected in ((busy, {0}), (full, set())):
        units = Units(cpu={})
        own = made(tmp_path / str(len(expected)), units, 10, machine)
        (tmp_path / str(len(expected))).mkdir()
        assert own.step(ask(*range(10)))["cpu"]["step"] == len(expected)
        own.step()
        assert set(units.there["cpu"]) == expected
        own.step(ask(id="2"))
        assert "leaving" in units.there["cpu"].values() or not expected


def test_who_never_starts_does_not_keep_the_others_back_for_ever() -> None:
    states: dict[str, dict[int, State]] = {"cpu": {0: "starting", 1: "running", 2: "leaving"}}
    begun = {("cpu", number): 100.0 for number in range(4)}
    assert on_their_way(begun, states, 101.0) == {("cpu", 0): 100.0, ("cpu", 3): 100.0}
    assert on_their_way(begun, states, 100.0 + UNSEEN) == {("cpu", 0): 100.0}
    assert on_their_way(begun, states, 100.0 + ON_ITS_WAY) == {}


def test_all_groups_of_a_machine_share_what_it_holds(tmp_path: Path) -> None:
    units = Units(cpu={0: "running", 1: "leaving"}, gpu={0: "running", 7: "starting"})
    own = made(tmp_path, units, 100)
    told = own.step(ask(0, 2))["cpu"]
    # 64 processes and 63 GiB, less three members of one process and 1 GiB, and two of 2 and 8.
    assert told["room"] == 63 - 3 - 16
    assert told["wanted"] == [0, 2]


def test_nothing_is_told_to_leave_twice() -> None:
    assert compare([0, 1], {1: "leaving", 2: "leaving", 3: "starting"}) == ([0], [3])


def test_its_configuration_is_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "keeper.json"
    told: dict[str, object] = {
        "cluster": "lab",
        "user": "dask-lab",
        "socket": "/run/dask-perennial/lab.sock",
        "state": "/nowhere",
        "groups": {"cpu": 2},
        "uses": {"cpu": [1, 2**30], "gpu": [2, 2**33]},
        "services": 2**30,
    }
    asks: dict[str, object] = {
        "machine": "machine-b",
        "scheduler": "tls://machine-a:8786",
        "tls": None,
        "socket": "/run/dask-perennial/lab.sock",
    }
    file.write_text(json.dumps(told))
    assert keeper.read(file).groups == {"cpu": 2}
    assert keeper.read(file).bounds == Bounds(USES, GIB)
    file.write_text(json.dumps(asks))
    assert relay.read(file).machine == "machine-b"
    bad: list[tuple[Callable[[Path], object], dict[str, object], dict[str, object]]] = [
        (keeper.read, told, {"cluster": "a b"}),
        (keeper.read, told, {"user": "a b"}),
        (keeper.read, told, {"socket": "here"}),
        (keeper.read, told, {"groups": {"cpu": "x"}}),
        (keeper.read, told, {"groups": {"../x": 1}}),
        (keeper.read, told, {"uses": {"gpu": [1, 1]}}),
        (keeper.read, told, {"uses": {"cpu": [1]}}),
        (keeper.read, told, {"uses": {"cpu": [1, -1]}}),
        (keeper.read, told, {"services": "1"}),
        (keeper.read, told, {"more": 1}),
        (relay.read, asks, {"machine": "../x"}),
        (relay.read, asks, {"more": 1}),
    ]
    for read_it, right, change in bad:
        file.write_text(json.dumps(right | change))
        with pytest.raises(PerennialError, match=next(iter(change))):
            read_it(file)
    for each in (keeper.read, relay.read):
        file.write_text("{")
        with pytest.raises(PerennialError, match="not valid JSON"):
            each(file)
        with pytest.raises(PerennialError, match="perennial up"):
            each(tmp_path / "none")


held = st.builds(
    lambda wanted, extra, most, trouble: GroupOnMachine(
        frozenset(wanted),
        {n: "running" if n % 2 else "starting" for n in {*wanted, *extra}},
        most,
        trouble=trouble,
    ),
    st.sets(st.integers(0, 6)),
    st.sets(st.integers(0, 6)),
    st.integers(0, 7),
    st.sampled_from(["", "", "busy"]),
)
places = st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 6)))


@given(st.dictionaries(st.sampled_from("abc"), held), st.integers(0, 20), places)
def test_a_plan_removes_nobody_who_runs_and_is_not_named(
    there: dict[str, GroupOnMachine], to: int, leaving: set[tuple[str, int]]
) -> None:
    change = planned(there, to, leaving)
    size = 0
    for name, one in there.items():
        want = change.wants.get(name, set(one.wanted))
        size += len(want)
        for number in one.wanted - want:
            assert (name, number) in leaving or one.states[number] != "running"
        for number in want - one.wanted:
            # A new member has a name that nobody has, and a place.
            assert number < one.most
            assert number not in one.states
            assert not one.trouble
    named = {(name, n) for name, n in leaving if name in there and n in there[name].wanted}
    assert not any(number in change.wants.get(name, ()) for name, number in named)
    if size < to:
        room = [one for name, one in there.items() if not one.trouble]
        assert all(
            len(one.used | change.wants.get(n, set())) >= one.most
            for n, one in there.items()
            if one in room
        )


def test_members_are_spread_evenly() -> None:
    empty = {name: GroupOnMachine(frozenset(), {}, 10) for name in "abc"}
    found = planned(empty, 7, ())
    assert {name: sorted(want) for name, want in found.wants.items()} == {
        "a": [0, 1, 2],
        "b": [0, 1],
        "c": [0, 1],
    }


def test_members_go_where_there_is_room_for_them() -> None:
    holds = Capacity(2, 4 * GIB)
    there = {
        "a": GroupOnMachine(frozenset({0}), {0: "running"}, 10, room=1, step=4, holds=holds),
        "b": GroupOnMachine(frozenset({0, 1, 2}), {}, 10, room=4, step=4, holds=holds),
    }
    assert [held.largest for held in there.values()] == [2, 7]
    found = planned(there, 9, ())
    assert {name: len(want) for name, want in found.wants.items()} == {"a": 2, "b": 7}
    # Whoever means more than they hold gets it, up to what the cluster file allows.
    found = planned(there, 99, ())
    assert {name: len(want) for name, want in found.wants.items()} == {"a": 10, "b": 10}


def test_a_silent_machine_has_those_that_the_scheduler_knows() -> None:
    told = {
        "wanted": [0, 1],
        "states": {"0": "running", "1": "running"},
        "most": 4,
        "pending": False,
        "age": 12.0,
        "trouble": "",
        "registered": [1],
    }
    found = read(told)
    assert found is not None
    assert (set(found.wanted), found.most, found.free) == ({1}, 0, [])
    assert found.away
    assert "12 s" in found.trouble
    assert read(told | {"registered": []}) is None
