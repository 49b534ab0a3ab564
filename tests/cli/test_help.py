"""What `--help` shows is whole on a terminal of 80 columns."""

from __future__ import annotations

import click
import pytest
import typer.main

from perennial.cli import app

COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_summary_is_one_short_sentence(name: str) -> None:
    command = COMMANDS[name]
    summary = command.help.split("\n\n")[0]
    assert len(summary) <= 60
    assert summary.endswith(".")
    assert summary.count(".") == 1
    # As the list of commands shows it on 80 columns, beside the longest name.
    assert command.get_short_help_str(80 - 4 - max(map(len, COMMANDS))) == summary


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_parameter_is_described(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Parameter) and parameter.name != "help":
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
