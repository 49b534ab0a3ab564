"""Root's part of a keeper as one file: it runs where nothing of ours is installed.

A cluster's environment holds whatever its requirements bring, and Python runs some of that when it
starts. So root runs no interpreter of an environment: it runs this file, which belongs to root, in
the machine's own Python and with the standard library alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.resources import files

from perennial.services import File, Service

#: Loads a module of ours from its text, for a Python that has `sys` imported.
LOADER = """
import types
def load(name, source):
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        if path not in sys.modules:
            new = sys.modules[path] = types.ModuleType(path)
            new.__path__ = []
            if end > 1:
                setattr(sys.modules[path.rpartition(".")[0]], parts[end - 1], new)
    exec(compile(source, "<" + name + ">", "exec"), sys.modules[name].__dict__)
"""
#: What it consists of, each before those that import it.
MODULES = (
    "perennial.errors",
    "perennial.files",
    "perennial.preloads.systemd_notify",
    "perennial.capacity",
    "perennial.cgroups",
    "perennial.platforms.hosts.agent.manifest",
    "perennial.platforms.hosts.agent.systemd",
    "perennial.platforms.hosts.agent.machine",
    "perennial.platforms.hosts.agent.reconciling",
    "perennial.platforms.hosts.agent.keeper",
)


def with_program(parts: Iterable[Service]) -> tuple[Service, ...]:
    """Give a keeper the file that it runs; the others stay as they are."""
    return tuple(
        replace(part, files=(*part.files, File(path, text())))
        if part.role == "keeper" and (path := _path(part)) not in {f.path for f in part.files}
        else part
        for part in parts
    )


def _path(keeper: Service) -> str:
    return next(word for word in keeper.command.argv if word.endswith(".py"))


@cache
def text() -> str:
    """Write the program."""
    whole = [
        "# Root's part of a keeper, as `perennial up` writes it. It needs Python 3.11 or newer.",
        f"import sys{LOADER}",
    ]
    for name in MODULES:
        package, _, module = name.rpartition(".")
        source = files(package).joinpath(f"{module}.py").read_text(encoding="utf-8")
        if "'''" in source:
            raise ValueError(f"{name}: found ''' in it, which would end its text")
        whole.append(f"load({name!r}, r'''{source}''')")
    return "\n".join([*whole, f"sys.exit(sys.modules[{MODULES[-1]!r}].main(*sys.argv[1:]))\n"])
