"""Each command on a platform that is new: it works, or says what the platform cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from perennial.cli import app
from perennial.contracts import Deployer, Runtime
from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.registry import PLATFORMS, Platform
from tests.cli import toy

FILE = "name: lab\nplatform: toy\nworkers: {cpu: {count: 2}}\ntoy: {colour: blue}\n"
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
#: Command → its words, and what it says.
WORKS = {
    "init": ("init other.yaml", "other.yaml"),
    "check": ("check cluster.yaml", "1 scheduler, 2 workers in 1 group"),
    "schema": ("schema", '"toy"'),
    "plan": ("plan", "~ replace scheduler    blue; ALL RUNNING WORK AND RESULTS ARE LOST"),
    "up": ("up --yes --no-connect", "lab is up: 1 painted\n  scheduler  tcp://127.0.0.1:1\n"),
    "down": ("down", "lab is down\n  the paint stays\n"),
    "list": ("list", "lab                  toy      up         2 workers  tcp://127.0.0.1:1"),
    "status": ("status", "lab: the scheduler does not answer"),
    "connect": ("connect lab", "Client() in a new Python process"),
    "disconnect": ("disconnect", "not connected: Client() starts a LocalCluster"),
    "env": ("env", "DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1:1"),
    "version": ("version", "0."),
    "import": ("import helm values.yaml", "platform: kubernetes"),
}
#: Of some platforms alone, whose own tests try them: `tests/platforms/kubernetes/test_verbs.py`
#: and `tests/labs/aws/test_life.py`.
OTHERS = {"adopt", "aws"}
LACKS = {
    "render": "render cluster.yaml --format systemd -o out",
    "refresh": "refresh",
    "forget": "forget machine-a --force",
    "logs": "logs",
    "restart": "restart cpu --force",
    "scale": "scale cpu=3",
    "rotate": "rotate",
    "revoke": "revoke anna",
    "open": "open --print",
    "enable": "enable",
    "disable": "disable",
    "doctor": "doctor",
}
#: These ask a scaler, which this platform has not got.
UNSCALED = {
    "explain": "explain",
    "history": "history",
    "pause": "pause",
    "resume": "resume",
    "scaler": "scaler run",
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cluster file, of a cluster that is up."""
    module = toy.__name__
    parts = (f"{module}.{part}" for part in ("Deployer", "Runtime"))
    registered = Platform(
        f"{module}.Options", "perennial.platforms.memory.MemoryFleet", *parts, stack=module
    )
    monkeypatch.setitem(PLATFORMS, "toy", registered)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(FILE)
    (tmp_path / "values.yaml").write_text("{}")
    run("up --yes --no-connect")
    return tmp_path


def run(words: str) -> str:
    """Run a command; an error of ours is raised, any other fails the test."""
    done = CliRunner().invoke(app, words.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1), done.output
    return done.output


def test_each_command_is_tried() -> None:
    assert {*WORKS, *LACKS, *UNSCALED, *OTHERS} == COMMANDS


@pytest.mark.parametrize("command", WORKS)
def test_it_works(cluster: Path, command: str) -> None:
    words, said = WORKS[command]
    assert said in run(words)


@pytest.mark.parametrize("command", LACKS)
def test_it_says_what_the_platform_cannot_do(cluster: Path, command: str) -> None:
    with pytest.raises(PerennialError, match=r"^the platform toy has no [a-z ]+$"):
        run(LACKS[command])


@pytest.mark.parametrize("command", UNSCALED)
def test_without_a_scaler_it_is_one_line(cluster: Path, command: str) -> None:
    cluster_state("lab").connection.unlink()  # or they would wait for a scheduler
    try:
        said = run(UNSCALED[command])
    except PerennialError as error:
        said = str(error)
    assert "\n" not in said.strip()


def test_another_cluster_is_listed_beside_one_that_cannot_be_looked_at(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_state("lab").state.write_text("{")
    assert "lab                  toy      unknown: " in run("list")
    cluster_state("lab").state.unlink()
    monkeypatch.delattr(toy.Runtime, "overview")
    assert "lab                  toy      unknown: the platform toy has no overview" in run("list")


def test_a_person_is_asked_before_a_change(cluster: Path) -> None:
    with pytest.raises(PerennialError, match="Do this\\? stdin is no terminal: add --yes"):
        run("up --no-connect")


def test_what_it_cannot_do_is_said_in_its_own_words(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.Runtime, "cannot", {"rotate": "{name}: paint does not expire"})
    with pytest.raises(PerennialError, match=r"^lab: paint does not expire$"):
        run("rotate")


def test_a_plan_shows_what_up_would_refuse_for_want_of_room(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: toy.Deployer, _spec: object, force: bool, _say: object) -> None:
        if not force:
            raise PerennialError("lab: no room")

    monkeypatch.setattr(toy.Deployer, "check_room", refuse)
    done = CliRunner().invoke(app, ["plan"])
    assert "replace scheduler" in done.output
    assert str(done.exception) == "`perennial up` would refuse this: lab: no room"
    with pytest.raises(PerennialError, match=r"^lab: no room$"):
        run("up --yes --no-connect")
    assert "lab is up" in run("up --yes --no-connect --force")


@pytest.mark.parametrize("part", [Deployer, Runtime])
def test_each_function_of_the_contract_is_in_contributing(part: type) -> None:
    own = {name for name in vars(part) if not name.startswith("_") and name != "cannot"}
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    assert {name for name in own if f"`{name}`" not in text} == set()
