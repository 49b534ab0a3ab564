"""`import`: a cluster file from what another way to deploy Dask has."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perennial.errors import PerennialError

#: The largest values file that is read, and a letter more.
_MOST = 2**20 + 1


class Source(StrEnum):
    """What can be imported."""

    HELM = "helm"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("import")(import_values)


def import_values(
    _source: Annotated[Source, typer.Argument(metavar="helm", help="The chart dask for Helm.")],
    values: Annotated[
        Path, typer.Argument(metavar="VALUES", help="The values file; - for standard input.")
    ],
    release: Annotated[str, typer.Option(help="Name of the release, and of the cluster.")] = "dask",
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of the cluster.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Output file, instead of standard output."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a value has no counterpart.")
    ] = False,
) -> None:
    """Convert values of a Helm chart to a cluster file."""
    from perennial.cli.files import summary, write
    from perennial.platforms.kubernetes.chart.convert import convert
    from perennial.spec.words import plural

    if output is not None and not force and (output.exists() or output.is_symlink()):
        raise PerennialError(f"{output}: exists already; add --force to write over it")
    source = "standard input" if str(values) == "-" else str(values)
    made = convert(_text(values, source), release, namespace, source)
    for note in made.notes:
        print(f"{'lost' if note.lost else 'differs'}: {note.key}: {note.why}", file=sys.stderr)
    if output is None:
        print(made.text, end="")
    else:
        write(output, made.text)
        lost = plural(made.lost, "value") if made.lost else "no value"
        print(f"{output}: {summary(made.spec)}; {lost} lost; `perennial check {output}`")
    if strict and made.lost:
        raise typer.Exit(1)


def _text(path: Path, source: str) -> str:
    try:
        if str(path) == "-":
            return sys.stdin.read(_MOST)
        with path.open(encoding="utf-8") as file:
            return file.read(_MOST)
    except UnicodeDecodeError:
        raise PerennialError(f"{source}: no UTF-8; save the file as UTF-8") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fix = "`helm get values RELEASE -o yaml` prints them"
        raise PerennialError(f"{source}: {reason}; {fix}") from None
