"""`doctor`: check a cluster and this machine for problems."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.life import Cluster, ItsFile, choose, named, platform_of
from perennial.cli.platform import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perennial.doctor import Finding


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(
    name: Cluster = None,
    file: ItsFile = None,
    python: Annotated[
        str | None,
        typer.Option("--python", help="Python interpreter to compare package versions with."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a cluster and this machine for problems.

    Checks services, the network, package versions, clocks, disks and certificates.
    """
    from rich.markup import escape

    from perennial.cli.output import console as make_console
    from perennial.doctor import level

    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    console = make_console(highlight=False, soft_wrap=True)
    findings = []
    for finding in _examined(named(name, file), python):
        findings.append(finding)
        if not as_json:
            colour = colours[finding.level]
            said = escape(f"{finding.check}: {finding.text}")
            console.print(f"[{colour}]{finding.level:8}[/{colour}] {said}")
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    raise typer.Exit(1 if level(findings) == "error" else 0)


def _examined(name: str | None, python: str | None) -> Iterator[Finding]:
    """Run the checks of a cluster of this user, or those that somebody with a bundle can."""
    from perennial import connect
    from perennial.paths import known_clusters

    own = known_clusters()
    chosen = choose(name) if own and name in (None, *own) else connect.find(name).cluster
    if chosen in own:
        return runtime(platform_of(chosen), chosen, "checks").checks(python)
    from perennial.doctor import outside

    return outside.examine(connect.find(chosen), python)
