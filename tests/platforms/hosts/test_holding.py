"""What members hold that nobody can take, and what they say that they have lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial import authority, connect
from perennial.cli import app
from perennial.errors import FleetError, PerennialError
from perennial.paths import cluster_state
from perennial.plan import Holder, Impact, Step, with_actors
from perennial.platforms.hosts import deploy, operator
from perennial.platforms.hosts.holding import abandoned, holders
from perennial.preloads.drain import LEAVES
from perennial.spec import dump
from tests.platforms.hosts.clusters import spec_of

PAGE = {
    "workers": {
        "tls://10.0.0.2:1": {"name": "cpu-machine-b-0", "actors": 0},
        "tls://10.0.0.2:2": {"name": "cpu-machine-b-1", "actors": 2},
        "tls://10.0.0.3:1": {"name": "gpu-10-0-0-3-0-0", "actors": 1},
        "tls://10.0.0.3:2": {"name": "gpu-10-0-0-3-0-1", "actors": 1},
        "tls://10.0.0.4:1": {"name": "somebody", "actors": 7},
    }
}
FOUND = [
    Holder("machine-b", "cpu", "cpu-machine-b-1", 2),
    Holder("10-0-0-3", "gpu", "gpu-10-0-0-3-0", 2),
]
LOST = "1 actor (counter)"
LINES = {
    "lost": LEAVES % ("cpu-machine-b-1", 5.0, "the deadline has passed", "no task", LOST),
    "kept": LEAVES % ("cpu-machine-b-1", 5.0, "the scheduler has gone", "no task", "nothing"),
}


def test_actors_are_counted_by_member() -> None:
    assert holders(PAGE, ["machine-b", "10-0-0-3"], ["cpu", "gpu"]) == FOUND
    assert holders({}, ["machine-b"], ["cpu"]) == []


def test_a_plan_names_the_actors_that_it_ends() -> None:
    drained, lost = Impact.DRAINED, Impact.LOSES_WORK
    steps = [
        Step("restart", "machine-b", "cpu-machine-b-0", "changed", drained),
        Step("restart", "machine-b", "cpu-machine-b-1", "changed", drained),
        Step("create", "machine-b", "cpu-machine-b-2", "new"),
        Step("restart", "10-0-0-3", "gpu", "each member changed", drained),
        Step("delete", "10-0-0-3", "10-0-0-3", "no longer in the cluster file", drained),
        Step("restart", "machine-a", "scheduler", "changed", lost),
        # Nothing is drained where the scheduler stops as well.
        Step("restart", "machine-b", "cpu-machine-b-1", "changed"),
    ]
    more = "; 2 actors cannot move and will end"
    both = zip(steps, with_actors(steps, FOUND), strict=True)
    told = [new.reason.removeprefix(old.reason) for old, new in both]
    assert told == ["", more, "", more, more, "", ""]


def test_a_log_says_what_was_abandoned() -> None:
    assert abandoned(["a line", f"12:00 WARNING - {LINES['lost']}"]) == LOST
    assert abandoned([LINES["kept"], "a line"]) == ""


class Machine:
    """A machine whose member holds an actor and abandons it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, what: str, **given: Any) -> Any:
        self.asked.append(what)
        if what == "page":
            return '{"workers": {"1": {"name": "cpu-machine-b-0", "actors": 2}}}'
        if what == "log_since":
            return ([LINES["lost"]] if given["cursor"] else ["old"], "cursor")
        return {} if what == "manifest" else None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    found = Machine()

    @contextmanager
    def borrowed(*_: Any) -> Iterator[Machine]:
        yield found

    monkeypatch.setattr(operator, "borrowed", borrowed)
    monkeypatch.setattr(deploy, "alone", borrowed)
    paths = cluster_state("lab")
    paths.root.mkdir(parents=True)
    paths.spec.write_text(dump(spec_of()))
    return found


def test_a_restart_asks_before_an_actor_ends_and_says_what_was_lost(machine: Machine) -> None:
    done = CliRunner().invoke(app, ["restart", "cpu-machine-b-0"])
    assert isinstance(done.exception, PerennialError | SystemExit)
    said = f"{done.output}{done.exception}"
    assert "actors are lost with their member, as nobody can take them: cpu-machine-b-0 (2)" in said
    assert "systemd_restart" not in machine.asked
    done = CliRunner().invoke(app, ["restart", "cpu-machine-b-0", "--force"])
    assert done.exception is None
    assert done.output == (
        f"lab: cpu-machine-b-0 abandoned {LOST}\nlab: cpu-machine-b-0 restarted\n"
    )
    # Who holds none is not asked about.
    machine.asked.clear()
    done = CliRunner().invoke(app, ["restart", "jupyter"])
    assert (done.exception, done.output) == (None, "lab: jupyter restarted\n")
    assert "log_since" not in machine.asked


def test_a_scheduler_that_does_not_answer_is_no_reason_to_ask(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_target: Any) -> Any:
        raise FleetError("it is off")

    monkeypatch.setattr(operator, "borrowed", away)
    assert operator.find("lab").actors() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["revoke", "ada"],
            "lab: machines over SSH cannot revoke one certificate; `perennial down`",
        ),
        (["rotate", "--ca"], "lab: its authority is in Pulumi's state and is not replaced under"),
        (["rotate", "--ca", "--force"], "lab: its authority is in Pulumi's state and is not"),
        (["rotate"], "lab: certificates of machines are renewed by `perennial up` in the last 30"),
        (
            ["connect", "lab", "--export", "lab.bundle", "--for", "ada"],
            "lab: machines over SSH cannot revoke one certificate, so none is issued to one",
        ),
    ],
)
def test_what_hosts_cannot_do_is_refused_in_one_sentence(
    machine: Machine, words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = cluster_state("lab")
    authority.ensure(paths.tls, "lab", ())
    own = connect.Connection("lab", "tls://machine-a:8786", tls=connect.Tls.in_folder(paths.tls))
    connect.save(paths, own)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, PerennialError)
    assert str(done.exception).startswith(says)
    assert "\n" not in str(done.exception)
    assert machine.asked == []
    assert not (tmp_path / "lab.bundle").exists()
    assert {path: path.read_bytes() for path in before} == before
