"""What Pulumi owns, as each command finds it; the stacks themselves are in `tests/stacks`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.cli import app
from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.state import PULUMI, Stack

FILE = "{name: lab, platform: PLATFORM, workers: {cpu: {count: 1}}MORE}\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("DASK_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: str) -> str:
    """Run a command; an error of ours is raised."""
    done = CliRunner().invoke(app, words.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def owned(platform: str = "local", more: str = "") -> None:
    text = FILE.replace("PLATFORM", platform).replace("MORE", more)
    Path("cluster.yaml").write_text(text)
    Stack("org/project/dev", "/srv/two words").save(cluster_state("lab"))
    cluster_state("lab").spec.write_text(text)


@pytest.mark.parametrize("verb", PULUMI)
@pytest.mark.parametrize("platform", ["local", "hosts", "kubernetes"])
def test_the_command_of_pulumi_is_printed(platform: str, verb: str) -> None:
    more = {
        "local": "",
        "hosts": ", environment: {python: /p}, hosts: {machines: [ma]}",
        "kubernetes": ", kubernetes: {image: 'dask:1'}",
    }
    owned(platform, more[platform])
    with pytest.raises(PerennialError) as caught:
        run({"forget": "forget ma", "up": "up --yes"}.get(verb, verb))
    assert str(caught.value) == (
        "lab: Pulumi's stack org/project/dev owns it, so nothing is deployed from here; run"
        f" `pulumi -C '/srv/two words' {PULUMI[verb]} --stack org/project/dev`"
    )


def test_a_file_of_another_platform_does_not_hide_who_owns_it() -> None:
    owned("hosts", ", environment: {python: /p}, hosts: {machines: [ma]}")
    Path("cluster.yaml").write_text("{name: lab, platform: local, workers: {cpu: {count: 1}}}")
    for command in ("plan", "up --yes"):
        with pytest.raises(PerennialError, match=r"^lab: Pulumi's stack org/project/dev owns it"):
            run(command)


def test_one_that_was_cut_off_is_forgotten_as_well() -> None:
    owned()
    cluster_state("lab").spec.unlink()
    assert run("disconnect -c lab").startswith("lab is forgotten here; the stack org/project/dev")
    assert not cluster_state("lab").stack.exists()
    assert run("disconnect -c lab") == "not connected: Client() starts a LocalCluster\n"


def test_a_damaged_file_is_said() -> None:
    owned()
    cluster_state("lab").stack.write_text(json.dumps({"nam": "dev"}))
    with pytest.raises(PerennialError, match=r"stack\.json is damaged: no stack in it; remove it"):
        run("down")
