"""`import` and `adopt`: from the Helm chart to a cluster file, and a scaler for its releases."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.output import Progress, confirm, show_plan
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.platforms.kubernetes.chart.release import Release

#: The largest values file that is read, and a letter more.
_MOST = 2**20 + 1


class Source(StrEnum):
    """What can be imported."""

    HELM = "helm"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("import")(import_values)
    app.command()(adopt)


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


def adopt(  # noqa: PLR0913, PLR0917 - each is an option of the command
    _source: Annotated[Source, typer.Argument(metavar="helm", help="The chart dask for Helm.")],
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="Name of the release.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of the release.")
    ] = "default",
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale", metavar="GROUP=MIN:MAX", help="Bounds of a group; worker is the main one."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Image of the scaler, with dask-perennial[kubernetes].")
    ] = None,
    interval: Annotated[str, typer.Option(help="Interval between decisions.")] = "5 s",
    idle: Annotated[str, typer.Option(help="Idle time before a worker may be removed.")] = "5 min",
    drain: Annotated[str, typer.Option(help="Time limit of a drain.")] = "60 s",
    policies: Annotated[
        bool, typer.Option("--policies", help="Add network policies for the release's pods.")
    ] = False,
    budgets: Annotated[
        bool, typer.Option("--budgets", help="Add disruption budgets for the release's pods.")
    ] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show the plan and exit.")] = False,
    values: Annotated[
        bool,
        typer.Option(
            "--values", help="Print the `helm upgrade` options that keep the sizes, and exit."
        ),
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove the scaler and restore the earlier sizes.")
    ] = False,
    keep_sizes: Annotated[
        bool, typer.Option("--keep-sizes", help="With --undo, leave the sizes as they are now.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation prompt.")] = False,
) -> None:
    """Scale a running Helm release by demand, beside it."""
    from perennial.platforms.kubernetes.chart import adopting, standing
    from perennial.platforms.kubernetes.chart.bounds import wanted
    from perennial.platforms.kubernetes.chart.release import find
    from perennial.platforms.kubernetes.client import Api

    if sum((values, undo)) > 1:
        raise PerennialError("--values and --undo: name one of the two")
    asked = None
    if not (values or undo):
        times = {"--interval": interval, "--idle": idle, "--drain": drain}
        asked = wanted(scale or (), image, times, policies=policies, budgets=budgets)
    api = Api()
    found = (adopting.adopted if undo else find)(api, release, namespace)
    if values:
        line, notes = adopting.size_options(api, found)
        for note in notes:
            print(f"{release}: {note}", file=sys.stderr)
        print(line)
        return
    if asked is None:
        planned = adopting.planned_undo(api, found, keep_sizes)
    else:
        planned = adopting.planned(api, found, asked)
    show_plan(release, planned)
    if plan_only:
        return
    if not yes:
        confirm(f"{release}: apply this plan?", "--yes")
    with Progress(release) as say:
        if asked is None:
            adopting.undo(api, found, say, keep_sizes)
        else:
            adopting.adopt(api, found, asked, say)
    if asked is None:
        standing.forget(release)
        print(f"{release}: all objects of dask-perennial are removed")
        return
    _say_adopted(found, standing.remember(found, asked))


def _say_adopted(release: Release, unknown: str) -> None:
    """Print what to run next; ``unknown`` says why the commands do not find it."""
    from perennial.platforms.kubernetes.chart.scaler_objects import name_of

    name, made = release.name, name_of(release.name)
    where = f"kubectl -n {release.namespace} rollout status deployment/{made}"
    shows = "`kubectl logs`" if unknown else f"`perennial status -c {name}`"
    print(f"{name}: its scaler is created; `{where}` waits for it, and {shows} shows it at work")
    if unknown:
        print(f"warning: {name}: {unknown}", file=sys.stderr)


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
