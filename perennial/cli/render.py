"""`render`: the files of a service manager, for people who want only the files."""

from __future__ import annotations

import os
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perennial.cli.platform import deployer
from perennial.errors import PerennialError


class Format(StrEnum):
    """A service manager."""

    systemd = "systemd"
    supervisord = "supervisord"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(render)


def render(
    file: Annotated[Path, typer.Argument(help="The cluster file.")],
    form: Annotated[Format, typer.Option("--format", help="Service manager.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")],
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that has other files.")
    ] = False,
) -> None:
    """Write systemd units or supervisord programs to a folder."""
    from perennial.spec import load

    spec = load(file)
    root = output.absolute()
    files, note = deployer(spec.platform, "render", spec.name).render(spec, form.value, root)
    if not force:
        _refuse_others(root, files)
    for name, text in files.items():
        _write(root, name, text)
        print(root / name)
    print(f"{spec.name}: {len(files)} files; {note}")


def _refuse_others(root: Path, files: Collection[str]) -> None:
    """Refuse a folder that holds more than an earlier call has written."""
    if root.exists() and not root.is_dir():
        raise PerennialError(f"{root}: found a file where a folder should be; choose another one")
    found = (path for path in sorted(root.rglob("*")) if not path.is_dir())
    other = next((path for path in found if str(path.relative_to(root)) not in files), None)
    if other is not None:
        raise PerennialError(
            f"{root} holds other files, {other.relative_to(root)} among them; choose an empty"
            " folder, or add --force to write beside them"
        )


def _write(root: Path, name: str, text: str) -> None:
    """Write a file that everybody may read: the services may run as another user."""
    from perennial.files import write_atomic

    path = root / name
    try:
        for folder in (root, *(root / part for part in reversed(Path(name).parents))):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                os.chmod(folder, 0o755)  # noqa: S103 - holds no secret
        write_atomic(path, text, mode=0o644)
    except OSError as error:
        raise PerennialError(f"{path}: cannot be written: {error.strerror}") from error
