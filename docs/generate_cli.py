"""Write the reference of the command line from the command line itself.

Run by `make docs`; the page includes the result, which is not kept in the repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
import typer.main

from perennial.cli import app

TARGET = Path(__file__).parent / "reference" / "generated" / "cli.md"


def commands() -> dict[str, Any]:
    """Every command by name, in the order of `perennial --help`."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def root() -> Any:
    """What stands before the command."""
    return typer.main.get_command(app)


def spellings(command: Any) -> list[str]:
    """Every way to write an option of a command: `-f`, `--file`, `--no-connect`."""
    options = [param for param in command.params if param.param_type_name == "option"]
    return [word for param in options for word in (*param.opts, *param.secondary_opts)]


def render() -> str:
    """Write one section for each command."""
    lines = ["## Options before the command", "", *_table(root(), "perennial")]
    for name, command in commands().items():
        lines += ["", f"## `perennial {name}`", "", _cell(command.help or ""), ""]
        lines += ["```text", _usage(name, command), "```"]
        if command.params:
            lines += ["", *_table(command, name)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the file, where its text has changed."""
    text = render()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        TARGET.write_text(text, encoding="utf-8")


def _usage(name: str, command: Any) -> str:
    words = [_argument(param) for param in command.params if param.param_type_name == "argument"]
    options = ["[OPTIONS]"] if spellings(command) else []
    return " ".join(["perennial", name, *options, *words])


def _argument(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    return name if param.required or name.startswith("[") else f"[{name}]"


def _table(command: Any, name: str) -> list[str]:
    context = typer.Context(command, info_name=name)
    rows = ["| argument or option | what it does |", "|---|---|"]
    for param in command.params:
        words, text = param.get_help_record(context)
        shown = _argument(param) if param.param_type_name == "argument" else words
        rows.append(f"| `{_escaped(shown)}` | {_cell(text)} |")
    return rows


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("<", "\\<")


def _escaped(text: str) -> str:
    """Keep a bar from ending the cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
