"""What an interpreter of anybody's may do on a machine: nothing as root."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.platforms.hosts import remote
from perennial.platforms.hosts.agent import environments, unprivileged
from perennial.platforms.hosts.machine_services import Target
from perennial.platforms.hosts.remote import Agent
from tests.ssh.sshd import MISSING, Place, make_place

root = pytest.mark.skipif(os.geteuid() != 0, reason="the agent is root's")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may write to, as a shared one of conda's is."""
    made = Path(tempfile.mkdtemp(prefix="env-", dir="/tmp"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def answer(**changes: object) -> str:
    return json.dumps({"version": "3.11.2", "packages": {"dask": "1"}, "missing": [], **changes})


@root
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_it_is_never_run_with_roots_rights_nor_reads_what_the_operator_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = folder / "witness"
    python = script(
        folder,
        f'(id -u; id -G; id -ru; readlink /proc/self/fd/0; env) > {witness}\necho "$ANSWER"'
        f"\necho '{answer()}'",
    )
    places = make_place(monkeypatch)
    place: Place = next(places)
    with Agent(Target("machine-b", "127.0.0.1", port=place.sshd.port)) as agent:
        found = agent.ask("environment_look", python=python, needs=[])
    remote.close()
    next(places, None)

    nobody = unprivileged.nobody()
    uid, groups, real, stdin, *variables = witness.read_text().splitlines()
    assert (uid, groups, real) == (str(nobody.uid), str(nobody.gid), str(nobody.uid))
    assert stdin == "/dev/null"
    assert not [line for line in variables if line.startswith(("SSH_", "SUDO_", "XDG_"))]
    assert found["version"] == "3.11.2"


@root
def test_one_that_only_root_may_run_is_refused(folder: Path) -> None:
    python = script(folder, "echo")
    Path(python).chmod(0o700)
    with pytest.raises(PerennialError) as caught:
        environments.look(python)
    assert str(caught.value) == (
        f"{python}: not executable for users other than root, and no service runs as root; give"
        " the path of an interpreter that every user may run"
    )


def test_this_interpreter_says_what_it_has() -> None:
    if os.geteuid() == 0 and Path(sys.executable).resolve().is_relative_to("/root"):
        pytest.skip("this interpreter is in root's own home")
    found = environments.look(sys.executable, ["distributed", "nowhere"])
    assert found is not None
    assert found["missing"] == ["nowhere"]
    assert found["packages"]["distributed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo hello >&2; exit 3", "hello"),
        ("exit 3", "no output"),
        ("echo '[]'", "[]"),
        ("echo '{}'", "{}"),
        (f"echo '{answer(version='3')}'", answer(version="3")),
        (f"echo '{answer(packages=[])}'", answer(packages=[])),
        (f"echo '{answer(missing=3)}'", answer(missing=3)),
    ],
)
def test_what_no_interpreter_says(folder: Path, text: str, said: str) -> None:
    with pytest.raises(PerennialError) as caught:
        environments.look(python := script(folder, text))
    assert str(caught.value) == f"{python}: no working Python: {said}; give the path of another one"


def test_no_escape_sequence_comes_to_the_operators_terminal(folder: Path) -> None:
    for text in (
        "printf 'a\\033]0;b\\007c'",
        f"cat <<'END'\n{answer(packages={'dask': chr(27) + '[2J'})}\nEND",
    ):
        with pytest.raises(PerennialError) as caught:
            environments.look(script(folder, text))
        assert str(caught.value).isprintable()


def test_one_that_does_not_end_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "TIMEOUT", 0.5)
    with pytest.raises(PerennialError, match=r"no working Python: no answer after 0\.5 s"):
        environments.look(script(folder, "sleep 600 & sleep 600"))


def test_what_it_leaves_running_holds_nobody_up(folder: Path) -> None:
    python = script(folder, f"setsid sleep 20 & echo '{answer()}'")
    assert environments.look(python)
