"""Each command that is about a cluster takes it by name and by file, in the same words."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import typer.main

from perennial.cli import app
from perennial.cli.life import named
from perennial.errors import PerennialError

#: What these are about is a file or nothing; a bundle or a name in the case of `connect`.
OTHERS = {"init", "check", "schema", "render", "plan", "up", "version", "list", "connect", "aws"}
#: What these are about is a chart's values, or a release that no cluster file describes.
OTHERS |= {"import", "adopt"}
#: Whose -f has been "follow" in every log command that people know.
FOLLOWS = {"logs"}

GROUP = typer.main.get_command(app)
COMMANDS = sorted(set(GROUP.commands) - OTHERS)  # type: ignore[attr-defined]


def options(command: str) -> set[str]:
    found = GROUP.commands[command].params  # type: ignore[attr-defined]
    return {word for param in found for word in param.opts if param.param_type_name == "option"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cluster_is_named_alike_everywhere(command: str) -> None:
    assert {"--cluster", "-c", "--file"} <= options(command)
    assert ("-f" in options(command)) or command in FOLLOWS
    arguments = [
        param.name
        for param in GROUP.commands[command].params  # type: ignore[attr-defined]
        if param.param_type_name == "argument"
    ]
    assert "name" not in arguments


def test_by_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("name: lab\nplatform: local\nworkers: {cpu: {}}\n")
    assert named(None, None) is None
    assert named("lab", None) == named(None, file) == named("lab", file) == "lab"
    with pytest.raises(PerennialError, match=r"--cluster other and --file .*, which names lab"):
        named("other", file)


def test_version() -> None:
    from typer.testing import CliRunner

    from perennial import __version__

    assert CliRunner().invoke(app, ["--version"]).output == f"{__version__}\n"


def test_check_takes_its_file_both_ways(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    file = tmp_path / "cluster.yaml"
    file.write_text(
        "name: lab\nplatform: hosts\nenvironment: {python: /p}\n"
        "workers: {cpu: {}}\nhosts: {machines: [a]}\n"
    )
    for words in ([str(file)], ["-f", str(file)], [str(file), "-f", str(file)]):
        assert CliRunner().invoke(app, ["check", *words]).exit_code == 0
    assert CliRunner().invoke(app, ["check", str(file), "-f", "other.yaml"]).exit_code != 0
