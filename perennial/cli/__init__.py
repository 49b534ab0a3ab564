"""The command line. It is thin: what a command does is in the modules that it calls."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperGroup

from perennial.cli import (
    aws,
    doctor,
    files,
    helm,
    life,
    operate,
    output,
    render,
    scaler,
    status,
    steer,
    use,
)
from perennial.errors import PerennialError


class Commands(TyperGroup):
    """The commands; refuses an empty value, as a script gives for a variable that is not set."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the command; no name, file or number is empty."""
        if args[:1] == ["init"]:  # `init` says itself what each value may be
            return super().parse_args(ctx, args)
        for before, word in pairwise(["", *args]):
            name, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
            if not value and (not word or word.endswith("=")):
                where = f"{name}: " if name.startswith("-") else ""
                raise PerennialError(f"{where}found an empty value; write one, or leave it out")
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="perennial",
    cls=Commands,
    help="Standing Dask clusters as code.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    rich_markup_mode=None,
)
for part in (files, render, life, status, operate, scaler, steer, use, doctor, helm, aws):
    part.register(app)


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    _version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        is_eager=True,
        callback=lambda given: _print_version() if given else None,
    ),
) -> None:
    """Standing Dask clusters as code."""
    if debug:
        os.environ["PERENNIAL_DEBUG"] = "1"


@app.command("version")
def version() -> None:
    """Print the version."""
    from perennial import __version__

    print(__version__)


def _print_version() -> None:
    version()
    raise typer.Exit


def main() -> None:
    """Run the command line; an error is one line, and the exit code says of which kind."""
    output.guard()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader, `head` say, has gone: nothing to report, and nothing more to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("PERENNIAL_DEBUG"):
            raise
        print(said(error), file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, PerennialError) else 1)


def said(error: Exception) -> str:
    """One line for an error; the system's own (a full disk, say) with the file that it names."""
    if isinstance(error, BlockingIOError | RuntimeError):
        from perennial.supervision.processes import cause

        if why := cause(error):
            return why
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}; fix that and run the command again"
    if not isinstance(error, PerennialError | OSError):
        return (
            f"found something that this version cannot handle ({type(error).__name__}: {error}); "
            "`perennial --debug` with the same command shows where; report that"
        )
    return str(error)
