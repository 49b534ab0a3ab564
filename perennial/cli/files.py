"""`init`, `check`, `schema`: write, validate and describe cluster files; nothing is started."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.platform import deployer
from perennial.errors import PerennialError, SpecError

if TYPE_CHECKING:
    from perennial.capacity import MachineResources
    from perennial.spec import ClusterSpec, Document

DEFAULT_FILE = Path("cluster.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(init)
    app.command()(check)
    app.command("schema")(print_schema)


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = DEFAULT_FILE,
    name: Annotated[str, typer.Option(help="Name of the cluster.")] = "lab",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented cluster file sized for this machine."""
    from perennial.platforms.local.machine import this_machine
    from perennial.spec import parse
    from perennial.spec.units import about

    if not force and (file.exists() or file.is_symlink()):
        raise PerennialError(f"{file}: exists already; add --force to write over it")
    if not file.parent.is_dir():
        raise PerennialError(f"{file.parent}: no such folder; make it first")
    schema = _data_file()
    machine = this_machine()
    text = _starter(name, machine, schema)
    try:
        spec = parse(text, str(file)).spec
    except SpecError as error:  # only the name is the user's input
        raise SpecError(error.without_lines().faults, "--name") from None
    write(schema, _schema_text())
    write(file, text)
    option = "" if file == DEFAULT_FILE else f" --file {shlex.quote(str(file))}"
    print(f"{file}: {summary(spec)}; `perennial up{option}` starts it")
    if machine.available < machine.memory // 2:
        free = f"{about(machine.available)} of {about(machine.memory)}"
        print(f"{free} of memory are free now; the workers are fitted to that")


def check(
    file: Annotated[
        Path | None, typer.Argument(help="The cluster file. Default: cluster.yaml.")
    ] = None,
    option: Annotated[Path | None, typer.Option("--file", "-f", help="The cluster file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
) -> None:
    """Validate a cluster file."""
    from perennial.spec import read

    if file is not None and option is not None and file != option:
        raise PerennialError(f"{file} and --file {option}: name one cluster file")
    document = read(file or option or DEFAULT_FILE)
    judge(document, strict)
    print(f"{document.source}: ok: {summary(document.spec)}")


def print_schema(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Output file, instead of standard output."
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of the cluster file."""
    if output is None:
        print(_schema_text(), end="")
    else:
        write(output, _schema_text())


def judge(document: Document, strict: bool) -> None:
    """Compare a cluster file with this machine: raise its errors, print its warnings."""
    errors, warnings = deployer(document.spec.platform).faults(document)
    errors = document.located(errors)
    warnings = document.located([*document.warnings(), *warnings])
    if errors or (strict and warnings):
        raise SpecError([*errors, *(warnings if strict else ())], document.source)
    for warning in warnings:
        typer.echo(f"warning: {warning.render(document.source)}", err=True)


def summary(spec: ClusterSpec) -> str:
    """Describe in one line what a cluster consists of."""
    from perennial.spec.units import about
    from perennial.spec.words import plural

    groups = spec.workers.values()
    workers = sum(group.count * group.processes for group in groups)
    threads = sum(group.count * group.processes * group.threads for group in groups)
    memory = sum(group.count * group.processes * group.memory for group in groups)
    return (
        f"1 scheduler, {plural(workers, 'worker')} in {plural(len(groups), 'group')}"
        f" ({plural(threads, 'thread')}, {about(memory)})"
        + (", Jupyter" if spec.jupyter is not None else "")
        + (f", a scaler of {', '.join(spec.scaled)}" if spec.scaled else "")
    )


def _starter(name: str, machine: MachineResources, schema: Path) -> str:
    from importlib.util import find_spec

    from perennial.platforms.local.starter import Ports, starter
    from perennial.supervision.listening import free_port

    scheduler = free_port(8786)
    dashboard = free_port(scheduler + 1)
    ports = Ports(scheduler, dashboard, free_port(max(8888, dashboard + 1)))
    # A file URL, because editors end the path at the first space.
    return starter(name, machine, ports, schema.as_uri(), find_spec("jupyterlab") is not None)


def _schema_text() -> str:
    import json

    from perennial.spec import schema

    return json.dumps(schema(), indent=2) + "\n"


def _data_file() -> Path:
    """Where editors find the schema, offline and from any folder."""
    xdg = os.environ.get("XDG_DATA_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path.home() / ".local" / "share"
    return base / "perennial" / "cluster.schema.json"


def write(path: Path, text: str) -> None:
    """Write a file that everybody may read."""
    from perennial.files import write_atomic

    try:
        write_atomic(path, text, 0o644)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PerennialError(f"{path}: cannot be written: {reason}; choose another file") from None
