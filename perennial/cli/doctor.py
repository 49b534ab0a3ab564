"""`doctor`: look for what will go wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from perennial.cli.life import Name, choose


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(
    name: Name = None,
    python: Annotated[
        str | None, typer.Option("--python", help="Compare this interpreter's packages.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Look for what will go wrong: services, versions, limits, disk, certificates."""
    from rich.console import Console
    from rich.markup import escape

    from perennial.local import deploy
    from perennial.local.doctor import examine, level

    deployment = deploy.find(choose(name), lambda _text: None)
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    console = Console(highlight=False, soft_wrap=True)
    findings = []
    for finding in examine(deployment, python):
        findings.append(finding)
        if not as_json:
            colour = colours[finding.level]
            said = escape(f"{finding.check}: {finding.text}")
            console.print(f"[{colour}]{finding.level:8}[/{colour}] {said}")
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    raise typer.Exit(1 if level(findings) == "error" else 0)
