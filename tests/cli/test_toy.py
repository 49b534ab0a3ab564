"""Each command on a platform that is new: it works, or says what the platform cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from perennial.cli import app
from perennial.errors import PerennialError
from perennial.registry import PLATFORMS, Platform
from tests.cli import toy

FILE = "name: lab\nplatform: toy\nworkers: {cpu: {count: 2}}\ntoy: {colour: blue}\n"
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
#: Command → its words, and what it says.
WORKS = {
    "init": ("init other.yaml", "other.yaml"),
    "check": ("check cluster.yaml", "1 scheduler, 2 workers in 1 group"),
    "schema": ("schema", '"toy"'),
    "plan": ("plan", "~ replace scheduler    red; ALL RUNNING WORK AND RESULTS ARE LOST"),
    "list": ("list", "lab                  toy      up"),
    "status": ("status", "lab: the scheduler does not answer"),
    "version": ("version", "0."),
}
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
#: These need a connection, which no deployment has written yet.
UNCONNECTED = {
    "connect": "connect lab",
    "disconnect": "disconnect",
    "env": "env",
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
    registered = Platform(
        f"{module}.Options", "perennial.platforms.memory.MemoryFleet", *[module] * 3
    )
    monkeypatch.setitem(PLATFORMS, "toy", registered)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(FILE)
    run("up --yes")
    return tmp_path


def run(words: str) -> str:
    """Run a command; an error of ours is raised, any other fails the test."""
    done = CliRunner().invoke(app, words.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1), done.output
    return done.output


def test_each_command_is_tried() -> None:
    assert {*WORKS, *LACKS, *UNCONNECTED, "up", "down"} == COMMANDS


@pytest.mark.parametrize("command", WORKS)
def test_it_works(cluster: Path, command: str) -> None:
    words, said = WORKS[command]
    assert said in run(words)


@pytest.mark.parametrize("command", LACKS)
def test_it_says_what_the_platform_cannot_do(cluster: Path, command: str) -> None:
    with pytest.raises(PerennialError, match=r"^the platform toy has no [a-z ]+$"):
        run(LACKS[command])


@pytest.mark.parametrize("command", UNCONNECTED)
def test_without_a_connection_it_is_one_line(cluster: Path, command: str) -> None:
    try:
        said = run(UNCONNECTED[command])
    except PerennialError as error:
        said = str(error)
    assert "\n" not in said.strip()


def test_another_cluster_is_listed_beside_one_that_cannot_be_looked_at(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(toy, "row")
    assert "lab                  toy      unknown: the platform toy has no row" in run("list")


def test_down(cluster: Path) -> None:
    assert run("down --force") == "lab is down\n"
