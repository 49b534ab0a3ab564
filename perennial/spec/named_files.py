"""The files that a cluster file names, found from the folder that it stands in.

A path becomes absolute, and a file of requirements becomes its lines: what is read is the same
from any folder, and a cluster that is remembered needs none of these files again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perennial.errors import Fault
from perennial.spec.tree import MAX_BYTES, Tree
from perennial.spec.words import key_path, shorten

_REQUIREMENTS = ("environment", "requirements")
_FILES = (("jupyter", "certificate"), ("jupyter", "key"))
_WHEELHOUSE = ("environment", "wheelhouse")
_WHEELS = (".whl", ".tar.gz", ".zip")
_CORRECT = "correct the path"


def settle(data: dict[str, Any], tree: Tree, base: Path, look: bool) -> list[Fault]:
    """Make paths absolute and read requirements, in place; ``look`` requires the files."""
    faults = _variables(data, tree, base)
    places: list[tuple[tuple[str, str], Callable[[Path], Any], str]] = [
        (_REQUIREMENTS, _lines, "a file of requirements"),
        (_WHEELHOUSE, _wheelhouse, "a folder of wheels"),
        *((place, _file, "a file") for place in _FILES),
    ]
    for place, read, allowed in places:
        section = data.get(place[0])
        if not isinstance(section, dict):
            continue
        given = section.get(place[1])
        if not isinstance(given, str) or not given or not given.isprintable():
            continue  # nothing there, or for the models to refuse
        try:
            path = base.absolute() / Path(given).expanduser()
            section[place[1]] = read(path) if look else str(path)
        except (OSError, ValueError, RuntimeError) as error:
            found = f"{given!r}: {_reason(error)}"
            faults.append(Fault(key_path(place), found, allowed, _CORRECT, tree.line(place)))
    return faults


def _variables(data: dict[str, Any], tree: Tree, base: Path) -> list[Fault]:
    """Put the first line of a file where a variable names one."""
    faults = []
    for place, section in _sections(data):
        for name, value in section.items():
            if not isinstance(value, dict) or value.keys() != {"file"}:
                continue
            at = (*place, name)
            given = value["file"]
            try:
                if not isinstance(given, str) or not given or not given.isprintable():
                    raise ValueError("not a path")
                section[name] = _first_line(base.absolute() / Path(given).expanduser())
            except (OSError, ValueError, RuntimeError) as error:
                found = f"{shorten(str(given))!r}: {_reason(error)}"
                faults.append(Fault(key_path(at), found, "a text file", _CORRECT, tree.line(at)))
    return faults


def _sections(data: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Find each `env`."""
    workers = data.get("workers")
    groups = workers.items() if isinstance(workers, dict) else ()
    for place, holder in [((), data), *((("workers", str(name)), each) for name, each in groups)]:
        section = holder.get("env") if isinstance(holder, dict) else None
        if isinstance(section, dict):
            yield (*place, "env"), section


def _first_line(path: Path) -> str:
    if not path.is_file():
        raise OSError(_kind(path))
    if path.stat().st_size > MAX_BYTES // 16:
        raise OSError(f"more than {MAX_BYTES // 16:,} bytes")
    first, _, rest = path.read_text(encoding="utf-8-sig").partition("\n")
    if rest.strip():
        raise ValueError("more than one line")
    return first.rstrip("\r")


def wheels(folder: Path) -> Iterator[tuple[str, int]]:
    """List the packages of a wheelhouse, name and size, in the order of the names."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_WHEELS) and path.is_file():
            yield path.name, path.stat().st_size


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise OSError(_kind(path))
    if path.stat().st_size > MAX_BYTES // 2:
        raise OSError(f"more than {MAX_BYTES // 2:,} bytes")
    text = path.read_text(encoding="utf-8-sig")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _wheelhouse(path: Path) -> str:
    if not path.is_dir():
        raise OSError("no such folder")
    if not any(wheels(path)):
        raise OSError("no wheels in it")
    return str(path)


def _file(path: Path) -> str:
    if not path.is_file():
        raise OSError(_kind(path))
    path.open("rb").close()
    return str(path)


def _kind(path: Path) -> str:
    return "a folder" if path.is_dir() else "no such file"


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return shorten(str(getattr(error, "strerror", None) or error).lower())
