"""`render`: plain files of a cluster, for people who want only the files."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from perennial.cli.files import write
from perennial.cli.platform import deployer
from perennial.errors import PerennialError
from perennial.registry import PLATFORMS

#: What any platform can write.
FORMATS = tuple(dict.fromkeys(form for each in PLATFORMS.values() for form in each.formats))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(render)


def render(
    file: Annotated[Path, typer.Argument(help="The cluster file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="Format of the files; required where the platform has several.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that has other files.")
    ] = False,
) -> None:
    """Write a cluster as plain files to a folder."""
    from perennial.spec import load

    spec = load(file)
    root = output.absolute()
    renders = deployer(spec.platform, "render", spec.name)
    files, note = renders.render(spec, _format(spec.platform, form), root)
    if not force:
        _refuse_others(root, files)
    for name, text in files.items():
        _write(root, name, text)
        print(root / name)
    print(f"{spec.name}: {len(files)} files; {note}")


def _format(platform: str, asked: str | None) -> str:
    """Choose what to write: what was asked, or all that the platform has."""
    formats = PLATFORMS[platform].formats
    if asked is None and len(formats) == 1:
        return formats[0]
    if asked not in formats:
        raise PerennialError(
            f"--format: found {asked or 'nothing'}; the platform {platform} has"
            f" {' or '.join(formats)}; choose one of them"
        )
    return asked


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
    for folder in (root, *(root / part for part in reversed(Path(name).parents))):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            os.chmod(folder, 0o755)  # noqa: S103 - holds no secret
    write(root / name, text)
