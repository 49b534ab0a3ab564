"""What members hold that nobody can take, and what they say that they have lost."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial import authority, connect
from perennial.cli import app
from perennial.errors import FleetError, PerennialError
from perennial.files import make_private, write_json
from perennial.paths import cluster_state
from perennial.plan import Holder, Impact, Step, with_actors
from perennial.platforms.hosts import deploy, operator, resizing
from perennial.platforms.hosts.actors import holders, member
from perennial.platforms.hosts.agent import journal, manifest, supervisord, systemd
from perennial.platforms.hosts.agent.main import Server
from perennial.platforms.hosts.desired_state import Steps
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.platforms.hosts.ownership import Owner
from perennial.preloads.drain import LEAVES
from perennial.spec import dump
from perennial.supervision.single_instance import abandoned_mark
from tests.platforms.hosts.clusters import arranged, spec_of, under, user_home

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


def test_the_journal_says_what_was_abandoned() -> None:
    entries: list[dict[str, Any]] = [
        {"_SYSTEMD_UNIT": "dask-lab-cpu@0.service", "MESSAGE": f"WARNING - {LINES['lost']}"},
        {"_SYSTEMD_UNIT": "dask-lab-cpu@1.service", "MESSAGE": LINES["kept"]},
        {"_SYSTEMD_UNIT": "dask-lab-cpu@2.service", "MESSAGE": [104, 255]},
        {"MESSAGE": "a line of nobody's"},
        {"MESSAGE": "what Unicode calls\u2028 an end of\x85 a line"},
        {"MESSAGE": None},
    ]
    # journalctl writes printable letters as they are, and those are.
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    assert journal.abandoned("") == {}
    assert journal.abandoned(text) == {"dask-lab-cpu@0.service": [LOST]}


def test_marks_beside_supervisord_say_what_was_abandoned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mark of before is not told; neither a link nor a pipe in the user's folder is read."""
    monkeypatch.setattr(manifest, "STATE", tmp_path)
    make_private(manifest.supervised("lab") / "run")
    write_json(manifest.path("lab"), {"init": "supervisord"})
    names = ["cpu-machine-b-0", "cpu-machine-b-1", "cpu-machine-b-2", "cpu-machine-b-3"]
    marks = [Path(abandoned_mark(manifest.supervised("lab") / "run" / f"{n}.lock")) for n in names]
    marks[0].write_text("of before\n")
    since = journal.leaving("lab", names)
    assert journal.left("lab", names, since) == {}
    marks[1].write_text(f"{LOST}\n1 task (a)\n")
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    marks[2].symlink_to(secret)
    os.mkfifo(marks[3])
    assert journal.left("lab", names, since) == {"cpu-machine-b-1": f"{LOST}, 1 task (a)"}


def test_a_unit_is_called_as_dask_calls_it() -> None:
    assigned = services_by_machine(spec_of())["machine-b"]
    assert member(assigned, "dask-lab-cpu@7.service") == "cpu-machine-b-7"
    assert member(assigned, "dask-lab-gone-by-now@0.service") == "gone-by-now-machine-b-0"
    assert member(assigned, "cpu-machine-b-7") == "cpu-machine-b-7"


class Machine:
    """A machine whose member holds an actor and abandons it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def here(self, text: str) -> str:
        return text

    def ask(self, what: str, **given: Any) -> Any:
        self.asked.append(what)
        if what == "page":
            return '{"workers": {"1": {"name": "cpu-machine-b-0", "actors": 2}}}'
        if what == "leaving":
            return "cursor"
        if what == "left":
            assert given["since"] == "cursor"
            return {unit: LOST for unit in given["units"] if "@0" in unit}
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
    assert "left" not in machine.asked


@pytest.mark.parametrize("init", ["systemd", "supervisord"])
def test_a_deploy_reports_who_abandons_something(machine: Machine, init: Any) -> None:
    """Those that restart, and those that leave, of groups that are in no file any more as well."""
    assigned = services_by_machine(spec_of(**under(init)))["machine-b"]
    wanted = arranged(assigned, {"cpu": 1})
    there = {"dask-lab-cpu@0.service": 1, "dask-lab-cpu@1.service": 2, "dask-lab-old@0.service": 3}
    restart, *stop = there
    found = {"manifest": {}, "programs": {}}
    lost: list[tuple[str, str]] = []
    home = None if init == "systemd" else user_home()
    deploy._change(
        *(
            machine,
            (assigned, home),
            wanted,
            (Steps((), (restart,), tuple(stop)), found),
        ),
        *(lambda _group: nullcontext(), lambda name, what: lost.append((name, what))),
    )
    assert lost == [("cpu-machine-b-0", LOST), ("old-machine-b-0", LOST)]


class Here:
    """An agent whose requests are answered in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("STATE", "LOCKS", "PYTHONS"):
            monkeypatch.setattr(manifest, name, folder / name)
        # As members of a supervisord leave: one is done, one has to abandon something.
        monkeypatch.setattr(supervisord, "take_down", self.take_down)
        monkeypatch.setattr(systemd, "reload", lambda: None)
        self.said: list[str] = []
        self.server = Server(io.BytesIO(), io.StringIO())
        monkeypatch.setattr(self.server, "say", self.said.append)
        self.run = manifest.supervised("lab") / "run"
        make_private(self.run)
        for name in ("cpu-machine-b-0", "cpu-machine-b-1"):
            (self.run / f"{name}.lock").touch()
            Path(abandoned_mark(self.run / f"{name}.lock")).write_text("of before\n")
        known = {"init": "supervisord", "machine": "machine-b"}
        write_json(manifest.path("lab"), known)

    def ask(self, what: str, **given: Any) -> Any:
        return json.loads(json.dumps(self.server._do(what, given)))

    def take_down(self, *_: Any) -> None:
        mark = Path(abandoned_mark(self.run / "cpu-machine-b-1.lock"))
        if not self.said:
            self.said.append("stopping")
            mark.write_text(f"{LOST}\n")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    found = Here(tmp_path, monkeypatch)

    @contextmanager
    def alone(*_: Any) -> Iterator[Here]:
        yield found

    monkeypatch.setattr(deploy, "alone", alone)
    return found


def test_a_machine_that_leaves_the_file_says_what_its_members_abandon(here: Here) -> None:
    assigned = services_by_machine(spec_of())["machine-b"]
    assert deploy.remove_services(assigned, here.said.append) == []
    assert here.said == ["stopping", f"cpu-machine-b-1 abandoned {LOST}"]
    assert not here.run.exists()
    # Taken away by now: nothing is told again.
    assert deploy.remove_services(assigned, here.said.append) == []
    assert len(here.said) == 2


def test_a_machine_that_another_resource_owns_by_now_tells_nothing(here: Here) -> None:
    write_json(manifest.path("lab"), {"init": "supervisord", "owner": "another"})
    assigned = services_by_machine(spec_of())["machine-b"]
    assert deploy.remove_services(assigned, here.said.append, owner=Owner("this")) == []
    assert here.said == ["another resource owns the services of this machine by now; they stay"]
    assert here.run.exists()


def test_scale_says_what_was_lost(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def scale(_operator: Any, wanted: Any, _say: Any, _force: bool, lost: Any) -> Any:
        lost("cpu-machine-b-1", LOST)
        return {group: (2, size) for group, size in wanted.items()}

    monkeypatch.setattr(resizing, "scale", scale)
    done = CliRunner().invoke(app, ["scale", "cpu=1"])
    assert done.exception is None
    assert done.output == f"lab: cpu-machine-b-1 abandoned {LOST}\nlab: cpu 2 → 1\n"


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
            "lab: no single certificate can be revoked on hosts; `perennial down`",
        ),
        (["rotate", "--ca"], "lab: its authority is in Pulumi's state and is not replaced under"),
        (["rotate", "--ca", "--force"], "lab: its authority is in Pulumi's state and is not"),
        (["rotate"], "lab: certificates of machines are renewed by `perennial up` in the last 30"),
        (
            ["connect", "lab", "--export", "lab.bundle", "--for", "ada"],
            "lab: no single certificate can be revoked on hosts, so none is issued to one",
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
